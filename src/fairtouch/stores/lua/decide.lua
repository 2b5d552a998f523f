-- Decides about one customer and, when nothing speaks against it, takes the slot: the whole step on the common way.
--
-- KEYS  1 the customer's document   2 its older columns   3 its older details   4 totals of what was pruned
--       5 the address's suppression (may be left out)
-- ARGV  1 the store's table of names (4 bytes)
--       2 the plan: since, until, closes_at, needed opt-in, needed double opt-in (I6 each), is open (B),
--         is plain (B; 1: only what stands here counts; 2: unless something was pruned; 0: no, subjects are told apart),
--         number of conditions (I2); then per condition: span (I6; 0 = calendar), start (I6), limit (I4)
--       3 the profile that the plan was made for
--       4 numbers of the scopes that cover the touch (3 bytes each)
--       5 what kinds fill: number (3 bytes) and row (B), for every kind that the client knows of
--       6 the rows: one byte per condition, 1 where it is filled
--       7 the ask: take (B), now (I6; 0 = the store's own), lease in milliseconds (I4), kind (3 bytes), how many entries
--         a document may hold (B)
--       8 the id with its length (I2), as it stands in a document; empty when there is none
--       9 the detail to keep, without the end of its lease
--      10 the words that were judged to permit it ('' = none were)
-- Result, one of
--   a text that begins with S: now (I6), and the profile that is stored: the plan was made for something else
--   a text that begins with T (taken) or F (free: nothing speaks against it): now, end of the lease (I6 each), then per
--     condition its count (I4), then the words that were said
--   a list: now, document, cause of the suppression, older columns if they were counted, older details (name, value, …)
--     if the id stands there, totals (the same): something speaks against it, or may do so, and nothing was written; the
--     client looks at everything
-- It validates first and writes last; every loop ends with the conditions or with the document.

local unpack_struct, pack, sub, byte, find = struct.unpack, struct.pack, string.sub, string.byte, string.find
local document = redis.call('GET', KEYS[1]) or struct.pack('>Bc4c4I6I2I2I2', 1, ARGV[1], ARGV[1], 0, 0, 0, 0)
local version, names, turn, older, number, profile_length, words_length = unpack_struct('>Bc4c4I6I2I2I2', document)
if version ~= 1 then return redis.error_reply('FAIRTOUCH newer') end
if names ~= ARGV[1] then return redis.error_reply('FAIRTOUCH names') end
local words_at = 22 + profile_length
local columns_at = words_at + words_length
local details_at = columns_at + 9 * number

local take, now, lease, kind, most = unpack_struct('>BI6I4c3B', ARGV[7])
local newest = older
if number > 0 then newest = unpack_struct('>I6', document, details_at - 9) end
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  if newest > now then now = newest end
end

local plan = ARGV[2]
local since, upto, closes_at, need_in, need_double, is_open, is_plain, conditions = unpack_struct('>I6I6I6I6I6BBI2', plan)
local profile = sub(document, 22, words_at - 1)
if profile ~= ARGV[3] or now < since or now >= upto then return 'S' .. pack('>I6', now) .. profile end

local cause = KEYS[5] and redis.call('GET', KEYS[5])
local is_doubtful = cause or is_plain == 0 or (is_plain == 2 and redis.call('EXISTS', KEYS[4]) == 1)
if number == 0 and #document >= details_at then is_doubtful = true end -- a damaged length: what is left may be words
local words = sub(document, words_at, columns_at - 1)

-- The words: none of them an opt-out, and late enough opt-ins.
if ARGV[10] ~= '' then
  is_doubtful = is_doubtful or words ~= ARGV[10]
elseif is_open == 0 then
  is_doubtful = true
else
  local covering = ARGV[4]
  local at, opted_in, confirmed = 1, 0, 0
  while at < words_length do
    local scope, parts = sub(words, at, at + 2), byte(words, at + 3) % 8
    local place = find(covering, scope, 1, true)
    while place and place % 3 ~= 1 do place = find(covering, scope, place + 1, true) end
    if place then
      local given = unpack_struct('>I6', words, at + 4)
      if given > opted_in then opted_in = given end
      if parts > 1 and unpack_struct('>I6', words, at + 10) > 0 then is_doubtful = true end
      if parts > 2 then
        given = unpack_struct('>I6', words, at + 16)
        if given > confirmed then confirmed = given end
      end
    end
    at = at + 4 + 6 * parts
  end
  if opted_in < need_in or confirmed < need_double then is_doubtful = true end
end

-- The id: what stands under it is looked at by the client.
local is_known = false
if ARGV[8] ~= '' then
  if find(document, ARGV[8], details_at, true) then is_doubtful = true end
  if older > 0 and redis.call('HEXISTS', KEYS[3], sub(ARGV[8], 3)) == 1 then is_doubtful, is_known = true, true end
end

-- The counts. Entries of one row are counted together: each condition looks for its start among their instants.
local fills, rows, instants = {}, {}, {} -- the row of a kind; the conditions of a row; its instants, newest first
local starts, limits, lowest = {}, {}, now + 1
for index = 1, conditions do
  local span, start, limit = unpack_struct('>I6I6I4', plan, 16 * index + 19)
  if span > 0 then start = now - span + 1 end
  starts[index], limits[index] = start, limit
  if start < lowest then lowest = start end
end
local function row_of(which)
  local place = find(ARGV[5], which, 1, true)
  while place and place % 4 ~= 1 do place = find(ARGV[5], which, place + 1, true) end
  if not place then return false end
  local row = byte(ARGV[5], place + 3)
  if not rows[row] then
    rows[row] = { byte(ARGV[6], row * conditions + 1, row * conditions + conditions) }
    instants[row] = {}
  end
  return row
end
local function collect(columns, first, last)
  for place = last - 9, first, -9 do
    local at, which = unpack_struct('>I6c3', columns, place)
    if at < lowest then return end
    local row = fills[which]
    if row == nil then
      row = row_of(which)
      fills[which] = row
    end
    if not row then
      is_doubtful = true
      return
    end
    local hers = instants[row]
    hers[#hers + 1] = at
  end
end
collect(document, columns_at, details_at)
local columns = false
if older > 0 and older >= lowest then
  columns = redis.call('GET', KEYS[2])
  if columns then collect(columns, 1, #columns + 1) end
end
local counts = {}
for index = 1, conditions do
  local start, count = starts[index], 0
  for row, hers in pairs(instants) do
    if rows[row][index] == 1 then
      local low, high = 0, #hers -- so many are at or after the start; they stand first
      if high > 0 and hers[high] >= start then low = high end
      while low < high do
        local middle = math.ceil((low + high) / 2)
        if hers[middle] >= start then low = middle else high = middle - 1 end
      end
      count = count + low
    end
  end
  counts[index] = count
  if count >= limits[index] then is_doubtful = true end
end

if take == 1 and (now < newest or number >= most) then is_doubtful = true end
if is_doubtful then
  local details, totals = {}, {}
  if is_known then
    columns, details = columns or redis.call('GET', KEYS[2]), redis.call('HGETALL', KEYS[3])
  end
  if is_plain ~= 1 then totals = redis.call('HGETALL', KEYS[4]) end
  return { now, redis.call('GET', KEYS[1]) or '', cause or '', columns or '', details, totals }
end

local lease_end = now + lease
if is_open == 1 and closes_at < lease_end then lease_end = closes_at end
local answer = pack('>I6I6' .. string.rep('I4', conditions), now, lease_end, unpack(counts))
if take == 0 then return 'F' .. answer .. words end
redis.call('SET', KEYS[1],
  pack('>Bc4c4I6I2I2I2', 1, names, turn, older, number + 1, profile_length, words_length)
  .. sub(document, 22, details_at - 1) .. pack('>I6', now) .. kind
  .. sub(document, details_at) .. pack('>I6', lease_end) .. ARGV[9])
return 'T' .. answer .. words
