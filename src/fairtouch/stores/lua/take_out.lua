-- Takes a deferred touch out: if this token claimed it last, or whoever did.
--
-- KEYS  1 items by the instant at which they are due   2 what each item holds   3 its last claim's token, and its turns
--       4 that this call did it, for the same call that is run again (may be left out)
-- ARGV  1 the item   2 the token (8 bytes; '' = any)   3 seconds for which the call is remembered
-- Result  1 if it was there, 0 otherwise

if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 then return 1 end
local claim = redis.call('HGET', KEYS[3], ARGV[1])
if not claim or (ARGV[2] ~= '' and string.sub(claim, 1, 8) ~= ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
if KEYS[4] then redis.call('SET', KEYS[4], '', 'EX', ARGV[3]) end
return 1
