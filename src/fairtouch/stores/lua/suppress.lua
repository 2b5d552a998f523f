-- Suppresses an address; an event that was already heard of it changes nothing, and the first cause stays.
--
-- KEYS  1 the suppression: its cause, a colon, and the token of the call that made it   2 events heard of the address, and
--       the tokens of the calls that told of them
-- ARGV  1 the cause   2 the event's id ('' = none)   3 this call's token, the same when it is run again
-- Result  1 if this call suppressed the address, 0 otherwise

local mine = ARGV[1] .. ':' .. ARGV[3]
local heard = ARGV[2] ~= '' and redis.call('HGET', KEYS[2], ARGV[2])
if heard and heard ~= ARGV[3] then return 0 end
local is_new = redis.call('SETNX', KEYS[1], mine)
if is_new == 0 and redis.call('GET', KEYS[1]) == mine then is_new = 1 end
if ARGV[2] ~= '' and not heard then
  local done = redis.pcall('HSET', KEYS[2], ARGV[2], ARGV[3])
  if type(done) == 'table' and done.err then -- Redis takes nothing back by itself
    if is_new == 1 then redis.call('DEL', KEYS[1]) end
    return done
  end
end
return is_new
