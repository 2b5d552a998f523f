-- Keeps a deferred touch, unless one stands under its item.
--
-- KEYS  1 items by the instant at which they are due   2 what each item holds   3 its last claim's token, and its turns
-- ARGV  1 the item   2 when it is due   3 what it holds, unlike every other by its random bytes
-- Result  when what stands there is due, and what it holds

local standing = redis.call('HGET', KEYS[2], ARGV[1])
if standing then return { redis.call('ZSCORE', KEYS[1], ARGV[1]), standing } end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) -- first: it is what a full server or a missing right would prevent
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], '')
return { ARGV[2], ARGV[3] }
