#!lua
-- Gives one message its position, keeps it, and tells everybody; or gives the first answer to a repeat.
-- KEYS: meta stream census processes channel [values order] [record records]
-- ARGV: epoch (if the group is new), id, kind, data, terms, length of the key (-1: none), key, expected, [digest]
-- expected: where the group has to be, EPOCH:OFFSET, or 0 for its beginning in whatever epoch; empty for anywhere
-- terms: position_ttl (and a second) history_size history_bytes history_ttl max_keys idempotency_keys; times in ms
-- Returns {0, epoch, offset, subscribers, behind}; {1, the same of the first time}; {2}: the record is of another
-- message; {3}: there are too many records; {4, epoch, offset}: the group is there, where it was not expected to be.

local KEEP = 1000 -- messages a process may be behind ...
local YOUNG = 60000 -- ... or all of so many ms ...
local HEAVY = 16 * 1024 * 1024 -- ... as long as they weigh less than so many bytes; what is of history stays besides
local EVERY, LEAST, MOST, LOOK = 4, 5, 8, 65536 -- every 4th message trims it: 5 go, or up to 8 of some 64 KiB
local RECORD = 300000 -- ms an idempotency record stays
local ALIVE = 3000 -- ms after which a process that reports nothing counts no more
local FRESH = 1000 -- ms for which sums and times of expiry are left alone

local meta, stream = KEYS[1], KEYS[2]
local id, data, terms, key, expected, digest = ARGV[2], ARGV[4], ARGV[5], ARGV[7], ARGV[8], ARGV[9]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local plain = digest and #KEYS - 2 or #KEYS
local values, order = KEYS[6], KEYS[7]
if plain < 7 then
  values, order = nil, nil
end
local record, records = KEYS[plain + 1], KEYS[plain + 2]

local function term(number)
  local place = 0
  for word in string.gmatch(terms, '%d+') do
    place = place + 1
    if place == number then
      return tonumber(word)
    end
  end
end

if digest then
  local known = redis.call('GET', record)
  if known then
    local first, epoch, offset, subscribers, behind = string.match(known, '^(%S+) (%S+) (%d+) (%d+) (%d+)$')
    if first ~= digest then
      return {2}
    end
    return {1, epoch, tonumber(offset), tonumber(subscribers), tonumber(behind)}
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', records, '-inf', now, 'LIMIT', 0, MOST)) do
    redis.call('ZREM', records, gone)
  end
  if redis.call('ZCOUNT', records, '(' .. now, '+inf') >= term(6) then
    return {3}
  end
end

local known = redis.call('HMGET', meta, 'e', 'o', 'w', 'x', 'q')
local epoch, top, weight = known[1], tonumber(known[2] or 0), tonumber(known[3] or 0)
if expected ~= '' and expected ~= (epoch or '') .. ':' .. top and (expected ~= '0' or top > 0) then
  return {4, epoch or '', top}
end
if not epoch then
  epoch = ARGV[1]
  redis.call('DEL', stream)
  if values then
    redis.call('DEL', values, order)
  end
  redis.call('HSET', meta, 'e', epoch)
end
local offset = top + 1
local message = epoch .. ' ' .. offset .. ' ' .. id .. ' ' .. ARGV[3] .. ' ' .. now .. ' ' .. ARGV[6] .. ' ' .. key .. data
local total = weight + #data + #key + #ARGV[3] - 1 + 64 -- the letter of a kind weighs nothing, whom it excludes does
redis.call('XADD', stream, offset .. '-0', 'm', message, 'w', weight)
redis.call('HSET', meta, 'o', offset, 'i', id, 'w', total)

local renew = not known[4] or math.abs(now - known[4]) >= FRESH
if values then
  local field = ARGV[6] == '-1' and '-' or '+' .. key
  redis.call('HSET', values, field, message)
  redis.call('ZADD', order, offset, field)
  local count, most = redis.call('ZCARD', order), term(5)
  renew = renew or count == 1
  if count > most then
    local silent = redis.call('ZPOPMIN', order, math.min(count - most, MOST))
    for place = 1, #silent, 2 do
      redis.call('HDEL', values, silent[place])
    end
  end
end
if renew then
  for _, each in ipairs(values and {meta, stream, values, order} or {meta, stream}) do
    redis.call('PEXPIRE', each, term(1))
  end
  redis.call('HSET', meta, 'x', now)
end

local function goes(entry)
  local at = tonumber(string.match(entry[1], '^%d+'))
  if at == offset then
    return false
  end
  local time = tonumber(string.match(entry[2][2], '^%S+ %S+ %S+ %S+ (%d+)'))
  local since = total - tonumber(entry[2][4]) -- what the stream weighs from this entry on
  if since < HEAVY and (at > offset - KEEP or time > now - YOUNG) then
    return false
  end
  return at <= offset - term(2) or since > term(3) or time <= now - term(4)
end

if (offset > KEEP or total > HEAVY) and offset % EVERY == 0 then
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
  if first[1] and goes(first[1]) then
    local at = tonumber(string.match(first[1][1], '^%d+'))
    local usual = (total - tonumber(first[1][2][4])) / (offset - at + 1)
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', math.max(LEAST, math.min(MOST, math.floor(LOOK / usual))))
    local count = 1
    while count < #oldest and goes(oldest[count + 1]) do
      count = count + 1
    end
    redis.call('XTRIM', stream, 'MINID', string.format('%.0f-0', at + count))
  end
end

local fresh, subscribers, behind = string.match(known[5] or '', '^(%d+) (%d+) (%d+)$')
if fresh and now < tonumber(fresh) and tonumber(fresh) - now <= FRESH then
  subscribers, behind = tonumber(subscribers), tonumber(behind)
else
  fresh, subscribers, behind = now + FRESH, 0, 0
  local told = redis.call('HGETALL', KEYS[3])
  if #told > 0 then
    local seen, alive = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now - ALIVE, '+inf', 'WITHSCORES'), {}
    for place = 1, #seen, 2 do
      alive[seen[place]] = tonumber(seen[place + 1])
    end
    for place = 1, #told, 2 do
      local last = alive[told[place]]
      if last then
        local all, late = string.match(told[place + 1], '^(%d+) (%d+)$')
        subscribers, behind = subscribers + all, behind + late
        fresh = math.min(fresh, last + ALIVE)
      end
    end
  end
  redis.call('HSET', meta, 'q', string.format('%.0f %d %d', fresh, subscribers, behind))
end

if digest then
  local answer = digest .. ' ' .. epoch .. ' ' .. offset .. ' ' .. subscribers .. ' ' .. behind
  redis.call('SET', record, answer, 'PX', RECORD)
  redis.call('ZADD', records, now + RECORD, record)
  redis.call('PEXPIRE', records, RECORD)
end
redis.call('SPUBLISH', KEYS[5], message)
return {0, epoch, offset, subscribers, behind}
