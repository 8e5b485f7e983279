#!lua flags=no-writes
-- Reads a page of a group's messages, and its position.
-- KEYS: meta stream
-- ARGV: what (fetch: all there is after an offset; read: history after it; back: history before it, newest first),
--   the offset, limit, bytes after which no more is read (two messages in any case),
--   history_size, history_bytes, history_ttl in ms
-- Returns {epoch, offset of the newest message, messages}, with an empty epoch for a group that is not known
local CHUNK = 64 -- messages looked at in one go
local stream, what, limit, budget = KEYS[2], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local meta = redis.call('HMGET', KEYS[1], 'e', 'o', 'w')
if not meta[1] then
  return {'', 0, {}}
end
local top, total = tonumber(meta[2]), tonumber(meta[3])
local first, last = 1, top
if what == 'back' then
  last = math.min(top, tonumber(ARGV[2]) - 1)
else
  first = math.min(top, tonumber(ARGV[2])) + 1
end

-- Whether the message at an offset is in history. If one is, all that follow are.
local size, bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local clock = redis.call('TIME')
local old = clock[1] * 1000 + math.floor(clock[2] / 1000) - tonumber(ARGV[7])
local function kept(offset)
  local entry = redis.call('XRANGE', stream, offset .. '-0', offset .. '-0')[1]
  if not entry or (total - tonumber(entry[2][4]) > bytes and offset < top) then
    return false
  end
  return tonumber(string.match(entry[2][2], '^%S+ %S+ %S+ %S+ (%d+)')) > old
end

if what ~= 'fetch' then
  first = math.max(first, top - size + 1)
  if first <= top and not kept(first) then
    local without, with = first, top + 1
    while with - without > 1 do
      local middle = math.floor((without + with) / 2)
      if kept(middle) then
        with = middle
      else
        without = middle
      end
    end
    first = with
  end
end

local found, weight, chunk = {}, 0, 4
while first <= last and #found < limit do
  chunk = math.min(chunk, limit - #found)
  local entries
  if what == 'back' then
    entries = redis.call('XREVRANGE', stream, last .. '-0', first .. '-0', 'COUNT', chunk)
  else
    entries = redis.call('XRANGE', stream, first .. '-0', last .. '-0', 'COUNT', chunk)
  end
  for _, entry in ipairs(entries) do
    found[#found + 1] = entry[2][2]
    weight = weight + #entry[2][2]
    if weight > budget and #found > 1 then
      return {meta[1], top, found}
    end
  end
  if #entries < chunk then
    break
  end
  local at = tonumber(string.match(entries[#entries][1], '^%d+'))
  if what == 'back' then
    last = at - 1
  else
    first = at + 1
  end
  chunk = math.max(1, math.min(CHUNK, math.floor((budget - weight) * #found / weight)))
end
return {meta[1], top, found}
