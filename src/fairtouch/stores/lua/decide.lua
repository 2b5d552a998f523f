-- Decides about one customer and, when nothing speaks against it, takes the slot: the whole step on the common way.
--
-- KEYS  1 the customer's document   2 its older columns   3 its older details
--       then, unless the plan is plain, totals of what was pruned; then the address's suppression (may be left out)
-- ARGV  1 the plan: the store's table of names (4 bytes), since, until, closes_at, needed opt-in, needed double opt-in
--         (I6 each), is open (B), is plain (B; 1: only what stands here counts; 2: unless something was pruned; 0: no,
--         subjects are told apart), longest span, earliest calendar start (I6 each), number of conditions, of bytes of
--         the profile, of scopes, of kinds told (I2 each); then
--           the profile that it was made for
--           numbers of the scopes that cover the touch (3 bytes each)
--           per condition: span (I6; 0 = calendar), start (I6), limit (I4)
--           numbers of the kinds that the client knows of (3 bytes each; those of one row together), then the row of
--             each (B)
--           the rows: one byte per condition, 1 where such a kind fills it
--       2 the ask: take (B), now (I6; 0 = the store's own), kind (3 bytes), how many entries (B) and bytes of details
--         (I2) a document may hold; then the detail to keep, with the length of the lease in place of its end
--       3 the words that were judged to permit it (left out = none were)
-- Result, a list
--   1 (taken) or 0 (nothing speaks against it), now, end of the lease, the words that were said, and per condition its
--     count
--   -1, now, profile: the plan was made for something else
--   -2, now, document, cause of the suppression, older columns if they were counted, older details (name, value, …) if
--     the id stands there, totals (the same): something speaks against it, or may do so, and nothing was written; the
--     client looks at everything
-- It validates first and writes last; every loop ends with the conditions or with the document.

local unpack_struct, pack, call = struct.unpack, struct.pack, redis.call
local sub, byte, find = string.sub, string.byte, string.find
local plan, ask = ARGV[1], ARGV[2]
local table_of_names, since, upto, closes_at, need_in, need_double, is_open, is_plain, longest, lowest, conditions,
  profile_bytes, scopes, told = unpack_struct('>c4I6I6I6I6I6BBI6I6I2I2I2I2', plan)
local document = call('GET', KEYS[1]) or pack('>Bc4I4I2I2BBBI2', 1, table_of_names, 0, 0, 2, 0, 0, 0, 65535)
local version, names, profile_length, words_length, listed, kinds, number = unpack_struct('>Bc4xxxxI2I2BBB', document)
if version ~= 1 then return redis.error_reply('FAIRTOUCH newer') end
if names ~= table_of_names then return redis.error_reply('FAIRTOUCH names') end
local older, beside, profile_at, is_listed = 0, 0, 17, true
if listed > 0 then
  older, beside = unpack_struct('>I6I3', document, 17)
  profile_at, is_listed = 26, listed < 255
end
local words_at = profile_at + profile_length
local listed_at = words_at + words_length
local kinds_at = listed_at + (is_listed and 3 * listed or 0)
local columns_at = kinds_at + 3 * kinds
local details_at = columns_at + 7 * number

local take, now, kind, most, most_bytes, flags, lease, id_length = unpack_struct('>BI6c3BI2BI3B', ask)
local newest = older
if number > 0 then newest = unpack_struct('>I6', document, details_at - 7) end
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + (time[2] - time[2] % 1000) / 1000
  if newest > now then now = newest end
end
if profile_length ~= profile_bytes or now < since or now >= upto
  or (profile_length > 0 and sub(document, profile_at, words_at - 1) ~= sub(plan, 57, 56 + profile_bytes)) then
  return { -1, now, sub(document, profile_at, words_at - 1) }
end

if longest > 0 and now - longest < lowest then lowest = now - longest + 1 end
local cause = false
local columns = false -- the older ones, if a condition looks back so far
if older > 0 and older >= lowest then
  columns = call('GET', KEYS[2]) or ''
  if #columns < 9 * beside then return redis.error_reply('FAIRTOUCH cut') end
else
  beside = 0
end
-- These functions use nothing of what surrounds them: every variable that one kept would cost an allocation.
local function doubt(now, cause, columns, is_plain, is_known)
  local details, totals = {}, {}
  if is_known then columns, details = columns or redis.call('GET', KEYS[2]), redis.call('HGETALL', KEYS[3]) end
  if is_plain ~= 1 then totals = redis.call('HGETALL', KEYS[4]) end
  return { -2, now, redis.call('GET', KEYS[1]) or '', cause or '', columns or '', details, totals }
end

-- Where numbers of three bytes stand in the plan from a place on; where they do not, behind its end.
local function placed(plan, which, first)
  local place = string.find(plan, which, first, true)
  while place and (place - first) % 3 > 0 do place = string.find(plan, which, place + 1, true) end
  return place or #plan + 1
end

-- How many entries lie at or after a start: columns are in the order of their instants.
local function counted(from, first, width, amount, start)
  if amount == 0 or struct.unpack('>I6', from, first) >= start then return amount end
  local low, high = 1, amount -- so many are certainly earlier; so many at most
  while low < high do
    local middle = (low + high + (low + high) % 2) / 2
    if struct.unpack('>I6', from, first + width * middle - width) < start then low = middle else high = middle - 1 end
  end
  return amount - low
end

-- The id: what stands under it is looked at by the client.
local id_at = 18
if flags % 16 > 7 then
  lease, id_length = unpack_struct('>I6B', ask, 15)
  id_at = 21
end
local id_ends, lengths = id_at + id_length, 1
if id_length > 127 then
  id_ends, lengths = id_at + 1 + (id_length - 128) * 256 + byte(ask, id_at + 1), 2
end
local is_known = false
if id_length > 0 and older > 0 then
  is_known = call('HEXISTS', KEYS[3], sub(ask, id_at + lengths, id_ends)) == 1
end
local suppression = KEYS[is_plain == 1 and 4 or 5]
cause = suppression and call('GET', suppression)
if is_known or cause or is_plain == 0 or (is_plain == 2 and call('EXISTS', KEYS[4]) == 1)
  or (id_length > 0 and find(document, sub(ask, id_at, id_ends), details_at, true))
  or (take == 1 and (now < newest or number >= most or kinds > 254 or #document - details_at >= most_bytes)) then
  return doubt(now, cause, columns, is_plain, is_known)
end

-- The words: none of them an opt-out, and late enough opt-ins.
local words = sub(document, words_at, listed_at - 1)
local covering_at = 57 + profile_bytes
local conditions_at = covering_at + 3 * scopes
if ARGV[3] then
  if words ~= ARGV[3] then return doubt(now, cause, columns, is_plain) end
else
  local at, opted_in, confirmed = words_at, 0, 0
  while at < listed_at - 2 do -- a check stands at their end
    local scope, parts, given = unpack_struct('>c3BI6', document, at)
    if placed(plan, scope, covering_at) < conditions_at then
      if given > opted_in then opted_in = given end
      if parts > 1 and unpack_struct('>I6', document, at + 10) > 0 then return doubt(now, cause, columns, is_plain) end
      if parts > 2 then
        given = unpack_struct('>I6', document, at + 16)
        if given > confirmed then confirmed = given end
      end
    end
    at = at + 4 + 6 * parts
  end
  if is_open == 0 or opted_in < need_in or confirmed < need_double then return doubt(now, cause, columns, is_plain) end
end

-- The row of all kinds that are listed, if it is one. Those of one row stand together in the plan, and mostly in the
-- order in which documents list them.
local told_at = conditions_at + 16 * conditions
local told_rows_at = told_at + 3 * told
local list = sub(document, beside > 0 and listed_at or kinds_at, columns_at - 1)
local row, apart = 0, false
if list ~= '' then
  local place = placed(plan, list, told_at)
  local row_at = told_rows_at + (place - told_at) / 3
  row = place + #list <= told_rows_at and byte(plan, row_at)
  if row and byte(plan, row_at + #list / 3 - 1) ~= row then row = false end
end
if not row or (beside > 0 and not is_listed) then
  local rows = {}
  local function row_of(which) -- false where the client does not know the kind
    if rows[which] == nil then
      local place = placed(plan, which, told_at)
      rows[which] = place < told_rows_at and byte(plan, told_rows_at + (place - told_at) / 3)
    end
    return rows[which]
  end
  row = is_listed and row_of(sub(list, 1, 3))
  for at = 4, #list, 3 do row = row and row_of(sub(list, at, at + 2)) == row and row end
  if not row then -- the instants of each row are counted apart
    apart = {}
    local function put(which, instant)
      local its = row_of(which)
      if not its then return false end
      apart[its] = apart[its] or {}
      table.insert(apart[its], instant)
      return true
    end
    for place = beside - counted(columns or '', 1, 9, beside, lowest), beside - 1 do
      local instant, which = unpack_struct('>c6c3', columns, 9 * place + 1)
      if not put(which, instant) then return doubt(now, cause, columns, is_plain) end
    end
    for place = number - counted(document, columns_at, 7, number, lowest), number - 1 do
      local instant, which = unpack_struct('>c6B', document, columns_at + 7 * place)
      which = sub(document, kinds_at + 3 * which, kinds_at + 3 * which + 2)
      if not put(which, instant) then return doubt(now, cause, columns, is_plain) end
    end
    for which, hers in pairs(apart) do apart[which] = table.concat(hers) end
  end
end

local lease_end = now + lease
if is_open == 1 and closes_at < lease_end then lease_end = closes_at end
local rows_at = told_rows_at + told - 1
local fills_at = rows_at + (row or 0) * conditions
local oldest = number > 0 and unpack_struct('>I6', document, columns_at) or now + 1 -- here
local result = { 0, now, lease_end, words }
for index = 1, conditions do
  local span, start, limit = unpack_struct('>I6I6I4', plan, conditions_at + 16 * index - 16)
  if span > 0 then start = now - span + 1 end
  local count = 0
  if apart then
    for which, hers in pairs(apart) do
      if byte(plan, rows_at + which * conditions + index) == 1 then
        count = count + counted(hers, 1, 6, #hers / 6, start)
      end
    end
  elseif byte(plan, fills_at + index) == 1 then
    if oldest < start then
      count = counted(document, columns_at, 7, number, start)
    else
      count = number
      if beside > 0 then count = count + counted(columns, 1, 9, beside, start) end
    end
  end
  if count >= limit then return doubt(now, cause, columns, is_plain) end
  result[4 + index] = count
end
if take == 0 then return result end
if lease_end < now then return doubt(now, cause, columns, is_plain) end

local place = find(document, kind, kinds_at, true)
while place and (place - kinds_at) % 3 > 0 do place = find(document, kind, place + 1, true) end
local new_kind = ''
if not place or place >= columns_at then
  place, new_kind, kinds = columns_at, kind, kinds + 1
end
call('SET', KEYS[1],
  sub(document, 1, 14) .. string.char(kinds, number + 1) .. sub(document, 17, columns_at - 1) .. new_kind
  .. sub(document, columns_at, details_at - 1) .. pack('>I6B', now, (place - kinds_at) / 3) .. sub(document, details_at)
  .. pack(id_at == 18 and '>BI3' or '>BI6', flags, id_at == 18 and lease_end - now or lease_end) .. sub(ask, id_at))
result[1] = 1
return result
