#!lua
-- Finds out whether what a process has of a group is what the server has; else gives the group a new epoch and tells
-- everybody. Entries and offsets stay as they are.
-- KEYS: meta stream values order channel
-- ARGV: epoch, offset and id of the newest message that the process has, new epoch, position_ttl in ms
-- Returns {1 if it is the same or else 0, epoch, offset, id of the newest message}
local meta, stream, offset, id = KEYS[1], KEYS[2], tonumber(ARGV[2]), ARGV[3]
local now = redis.call('HMGET', meta, 'e', 'o', 'i')

local function same()
  local top = tonumber(now[2])
  if offset == 0 then
    return true
  elseif offset >= top then
    return offset == top and id == now[3]
  end
  local entry = redis.call('XRANGE', stream, offset .. '-0', offset .. '-0')[1]
  -- What is not there was trimmed; the process learns that when it asks for what follows.
  return not entry or string.match(entry[2][2], '^%S+ %S+ (%S+)') == id
end

local is_same = now[1] == ARGV[1] and same()
if not now[1] then
  redis.call('DEL', unpack(KEYS, 2, 4))
  now = {ARGV[4], '0', ''}
  redis.call('HSET', meta, 'e', ARGV[4], 'o', 0, 'i', '', 'w', 0)
elseif now[1] == ARGV[1] and not is_same then
  now[1] = ARGV[4]
  redis.call('HSET', meta, 'e', ARGV[4])
end
for place = 1, 4 do
  redis.call('PEXPIRE', KEYS[place], ARGV[5])
end
if now[1] == ARGV[4] then
  redis.call('SPUBLISH', KEYS[5], '!' .. now[1] .. ' ' .. now[2])
end
return {is_same and 1 or 0, now[1], now[2], now[3]}
