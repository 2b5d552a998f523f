-- Replaces a customer's document, and what stands beside it, if it still is what the client saw.
--
-- KEYS  1 the document   2 its older columns   3 its older details   4 totals of what was pruned   5 the words spoken
--       6 the address's suppression (may be left out)
-- ARGV  1 the SHA-1 of the document that the client saw, in hexadecimal ('' = there was none)
--       2 the new document, unlike every other by the four random bytes of its turn
--       3 seconds after which the new document goes, because it says nothing ('' = it stays)
--       4 how many ids follow, none of which may stand among the older details
--       then any number of commands for keys 2 to 5: name, number of the key, number of arguments, arguments
-- Result  1: done, by this call or by an earlier run of it; 0: it is another document now, nothing was written;
--         -1: the address is suppressed, nothing was written; 2: such an id stands there, nothing was written

local document = redis.call('GET', KEYS[1])
if document == ARGV[2] then return 1 end
if KEYS[6] and redis.call('EXISTS', KEYS[6]) == 1 then return -1 end
if (document and redis.sha1hex(document) or '') ~= ARGV[1] then return 0 end
local ids = 4 + tonumber(ARGV[4])
for place = 5, ids do
  if redis.call('HEXISTS', KEYS[3], ARGV[place]) == 1 then return 2 end
end
local place, added = ids + 1, {}
while place <= #ARGV do
  local last = place + 2 + tonumber(ARGV[place + 2])
  local done = redis.call(ARGV[place], KEYS[tonumber(ARGV[place + 1])], unpack(ARGV, place + 3, last))
  if ARGV[place] == 'HSETNX' and done == 1 then added[#added + 1] = ARGV[place + 3] end
  place = last + 1
end
local done = ARGV[3] == '' and redis.pcall('SET', KEYS[1], ARGV[2])
  or redis.pcall('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
if done.err then -- Redis takes nothing back by itself
  for _, name in ipairs(added) do redis.call('HDEL', KEYS[5], name) end
  return done
end
return 1
