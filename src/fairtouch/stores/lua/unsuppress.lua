-- Lifts the suppression of an address, once: a call that is run again lifts nothing that came in between.
--
-- KEYS  1 the suppression   2 what a call of this token did, kept for a while
-- ARGV  1 seconds to keep that
-- Result  1 if there was a suppression, 0 otherwise

local done = redis.call('GET', KEYS[2])
if done then return tonumber(done) end
local cause = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[2], cause, 'EX', ARGV[1])
redis.call('DEL', KEYS[1])
return cause
