-- Claims deferred touches that are due: they are due again when the claim ends.
--
-- KEYS  1 items by the instant at which they are due   2 what each item holds   3 its last claim's token, and its turns
--       4 the items of this claim, for the same call that is run again
-- ARGV  1 now ('' = by this server's clock)   2 the length of the claim, in milliseconds   3 how many items at most
--       4 the claim's token (8 bytes)   5 seconds for which the claim is remembered
-- Result  now; then of each item: its name (32 bytes), what it holds, its turns

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local items = {}
local before = redis.call('GET', KEYS[4])
if before then
  for at = 1, #before, 32 do items[#items + 1] = string.sub(before, at, at + 31) end
else
  items = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
  if #items == 0 then return { now } end
  redis.call('SET', KEYS[4], table.concat(items), 'EX', ARGV[5])
end
local claimed = { now }
for _, item in ipairs(items) do
  local claim = redis.call('HGET', KEYS[3], item)
  if claim or not before then -- else it was cancelled since the first run
    local turns = string.sub(claim or '', 9)
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), item)
    redis.call('HSET', KEYS[3], item, ARGV[4] .. turns)
    claimed[#claimed + 1] = item
    claimed[#claimed + 1] = redis.call('HGET', KEYS[2], item) or ''
    claimed[#claimed + 1] = turns
  end
end
return claimed
