-- Confirms or releases a reservation that stands in its customer's document, which is nearly every one.
--
-- KEYS  1 the customer's document
-- ARGV  1 the store's table of names (4 bytes)   2 'confirm' or 'release'
--       3 the reservation as its detail spells it: the id with its length, and the token (8 bytes)
--       4 this call's turn (4 random bytes), the same when it is run again
-- Result, a list
--   0: it does not stand there, or has to be looked at; nothing was written
--   1, now, whether it was reserved before this call or an earlier run of it (1) or confirmed (0), end of its lease (0:
--     it is gone), the words that were said
-- It validates first and writes last; the loop ends with the document.

local unpack_struct, sub, byte, find = struct.unpack, string.sub, string.byte, string.find
local document = redis.call('GET', KEYS[1])
if not document then return { 0 } end
local version, names, turn, profile_length, words_length, listed, kinds, number =
  unpack_struct('>Bc4c4I2I2BBB', document)
if version ~= 1 then return redis.error_reply('FAIRTOUCH newer') end
if names ~= ARGV[1] then return redis.error_reply('FAIRTOUCH names') end
local words_at = (listed > 0 and 26 or 17) + profile_length
local listed_at = words_at + words_length
local kinds_at = listed_at + (listed < 255 and 3 * listed or 0)
local columns_at = kinds_at + 3 * kinds
local details_at = columns_at + 7 * number
local is_again = turn == ARGV[4]

local time = redis.call('TIME')
local now = time[1] * 1000 + (time[2] - time[2] % 1000) / 1000
local newest = 0
if number > 0 then
  newest = unpack_struct('>I6', document, details_at - 7)
elseif listed > 0 then
  newest = unpack_struct('>I6', document, 17)
end
if newest > now then now = newest end
local words = sub(document, words_at, listed_at - 1)

-- A length, and how many bytes it takes.
local function length_at(from, place)
  local length = string.byte(from, place)
  if length < 128 then return length, 1 end
  return (length - 128) * 256 + string.byte(from, place + 1), 2
end
-- Entry by entry, because a subject may contain whatever looks like a reservation.
local found = find(document, ARGV[3], details_at, true)
local index, at, flags, id_at, ends = 0, details_at, 0, 0, details_at
while found and index < number and id_at < found do
  index, at, flags = index + 1, ends, byte(document, ends)
  id_at = at + (flags % 16 > 7 and 7 or 4)
  while found and found < id_at do found = find(document, ARGV[3], found + 1, true) end
  local length, bytes = length_at(document, id_at)
  ends = id_at + bytes + length + (flags - flags % 16) / 16
  if flags % 4 > 1 then
    length, bytes = length_at(document, ends)
    ends = ends + bytes + length
  end
  if flags % 8 > 3 then ends = ends + 16 end
end
if not found or id_at ~= found or flags < 128 or flags > 143 then
  if is_again and ARGV[2] == 'release' then return { 1, now, 1, 0, words } end
  return { 0 }
end

local column_at = columns_at + 7 * (index - 1)
local lease_end
if id_at == at + 7 then
  lease_end = unpack_struct('>I6', document, at + 1)
else
  lease_end = unpack_struct('>I6', document, column_at) + unpack_struct('>I3', document, at + 1)
end
local is_reserved = flags % 2 == 0
local result = { 1, now, (is_reserved or is_again) and 1 or 0, lease_end, words }
if not is_reserved then return result end
if ARGV[2] == 'confirm' then
  redis.call('SET', KEYS[1],
    sub(document, 1, 5) .. ARGV[4] .. sub(document, 10, at - 1) .. string.char(flags + 1) .. sub(document, at + 1))
  return result
end
if kinds > number + 8 then return { 0 } end -- many of them may occur no more: the client packs the document anew
redis.call('SET', KEYS[1],
  sub(document, 1, 5) .. ARGV[4] .. sub(document, 10, 15) .. string.char(number - 1)
  .. sub(document, 17, column_at - 1) .. sub(document, column_at + 7, at - 1) .. sub(document, ends))
return result
