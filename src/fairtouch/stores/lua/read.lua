-- Reads a customer's document, and what stands beside it, at one instant.
--
-- KEYS  1 the document   2 its older columns   3 its older details   4 totals of what was pruned   5 the words spoken
-- ARGV  1 what is wanted beside the document: 1 the older entries, 2 the totals, 4 the words (added up)
-- Result  now in milliseconds, document, older columns, older details (name, value, …), totals and words (the same)

local time = redis.call('TIME')
local wanted = tonumber(ARGV[1])
local result = { time[1] * 1000 + math.floor(time[2] / 1000), redis.call('GET', KEYS[1]) or '', '', {}, {}, {} }
if wanted % 2 == 1 then
  result[3], result[4] = redis.call('GET', KEYS[2]) or '', redis.call('HGETALL', KEYS[3])
end
if wanted % 4 >= 2 then result[5] = redis.call('HGETALL', KEYS[4]) end
if wanted >= 4 then result[6] = redis.call('HGETALL', KEYS[5]) end
return result
