-- Gives a name its number, once and for ever; the first name makes the table, under a number drawn by the client.
--
-- KEYS  1 the table: "" its own number, "n" how many names there are, ">" and a name its number, "<" and a number its name
-- ARGV  1 a number for a table that is not there yet (4 bytes)   2 the name ('' = only look)
-- Result  the table's number, and the name's

local names = redis.call('HGET', KEYS[1], '')
if not names then
  names = ARGV[1]
  redis.call('HSET', KEYS[1], '', names)
end
if ARGV[2] == '' then return { names, 0 } end
local number = redis.call('HGET', KEYS[1], '>' .. ARGV[2])
if not number then
  number = redis.call('HINCRBY', KEYS[1], 'n', 1)
  redis.call('HSET', KEYS[1], '>' .. ARGV[2], number, '<' .. number, ARGV[2])
end
return { names, tonumber(number) }
