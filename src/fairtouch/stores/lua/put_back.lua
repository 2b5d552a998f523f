-- Makes a deferred touch due at another instant, if this token claimed it last.
--
-- KEYS  1 items by the instant at which they are due   2 of each its last claim's token, and its turns
-- ARGV  1 the item   2 the token (8 bytes)   3 when it is due   4 its turns
-- Result  1: done, by this call or by an earlier run of it; 0: somebody else claimed it, or it is gone

if string.sub(redis.call('HGET', KEYS[2], ARGV[1]) or '', 1, 8) ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ARGV[4])
return 1
