#!lua
-- Takes members into groups of one partition and strikes them off, and tells the groups' channels.
-- KEYS: here leaving index trace ticket, then for each group: members order users back channel
-- ARGV: kind, process, ticket, what the process has in `here`, what it is to have there, generation,
--   then for each order: place of its group, verb, client, two more
-- Kinds: "own" and "anew": of the process that asks, which is refused unless `here` has of it what it thinks; anew
--   without that condition. "lost": of a process that is dead if `here` has it as it was seen. "due": of any.
-- Verbs: "+" enters (more: packed member), "-" departs (reason, grace in ms), "x" departs if its grace is over, "l" if
--   it is the lost process's.
-- Returns {0} if refused; {1, 1 if the process was taken for dead, 1 if it has members, {count before and after for each
-- group}, {for each order: "" no news, "+" entered, "~" and who it was: moved, "s" it was leaving and stays, "l" it is
-- leaving, "-" and its packed member: struck off, "?" it was not there}}. The same ticket is given the same answer.
local ANSWER = 600000 -- ms for which an answer can be asked for again
local TRACE = 3600000 -- ms for which a process that was taken for dead and is not can learn of it
local STRIDE, GROUPS, FIRST = 5, 5, 7
local here, leaving, index, trace, ticket = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local kind, process, number, known, mark, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local saved = redis.call('GET', ticket)
if saved then
  local of, answer = string.match(saved, '^(%S+) (.*)$')
  if of == number then
    return cmsgpack.unpack(answer)
  end
end

local now_here = redis.call('HGET', here, process)
if kind == 'own' then
  if (now_here and string.match(now_here, '^%S+') or '') ~= known then
    return {0}
  end
elseif kind == 'lost' then
  if now_here ~= known then
    return {0}
  end
  redis.call('HSET', here, process, '!')
  redis.call('SET', trace, '', 'PX', TRACE)
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local groups = {}
for place = FIRST - 1, #KEYS, GROUPS do
  groups[#groups + 1] = {
    members = KEYS[place], order = KEYS[place + 1], users = KEYS[place + 2], back = KEYS[place + 3],
    channel = KEYS[place + 4], name = string.match(KEYS[place + 4], '}:c:(.*)$'),
    before = redis.call('HLEN', KEYS[place]), news = {},
  }
end

-- A packed member: what it is recognised by, the length of its user (-1: none), the user and its JSON.
local function parts(packed)
  local digest, length, rest = string.match(packed, '^(%S+) (%S+) (.*)$')
  length = tonumber(length)
  if length < 0 then
    return digest, nil, rest
  end
  return digest, string.sub(rest, 1, length), string.sub(rest, length + 1)
end

local function back_entry(digest, due, client)
  return digest .. ' ' .. string.format('%015.0f', due) .. ' ' .. client
end

-- Forgets that a member is leaving; says whether it was.
local function stay(group, client, digest)
  local due = redis.call('ZSCORE', leaving, group.name .. ' ' .. client)
  if not due then
    return false
  end
  redis.call('ZREM', leaving, group.name .. ' ' .. client)
  if digest ~= '-' then
    redis.call('ZREM', group.back, back_entry(digest, due, client))
  end
  return true
end

local function drop(group, client, packed)
  local digest, user = parts(packed)
  stay(group, client, digest)
  redis.call('HDEL', group.members, client)
  redis.call('ZREM', group.order, client)
  redis.call('ZREM', index, group.name .. ' ' .. client)
  if user and redis.call('HINCRBY', group.users, user, -1) <= 0 then
    redis.call('HDEL', group.users, user)
  end
end

local function tell(group, ...)
  group.news[#group.news + 1] = '[' .. table.concat({...}, ',') .. ']'
end

local function left(group, client, reason)
  tell(group, '"-"', cjson.encode(client), '"' .. reason .. '"')
end

local function strike(group, client, reason)
  local packed = redis.call('HGET', group.members, client)
  if not packed then -- the server has dropped keys: there is nothing left to tell of
    redis.call('ZREM', leaving, group.name .. ' ' .. client)
    redis.call('ZREM', index, group.name .. ' ' .. client)
    return ''
  end
  drop(group, client, packed)
  left(group, client, reason)
  return '-' .. packed
end

local function enter(group, client, packed)
  local there = redis.call('HGET', group.members, client)
  redis.call('ZADD', index, generation, group.name .. ' ' .. client)
  if there then
    return stay(group, client, (parts(there))) and 's' or ''
  end
  local digest, user, json = parts(packed)
  redis.call('HSET', group.members, client, packed)
  redis.call('ZADD', group.order, 0, client)
  if user then
    redis.call('HINCRBY', group.users, user, 1)
  end
  local same = digest ~= '-'
    and redis.call('ZRANGEBYLEX', group.back, '[' .. digest .. ' ', '(' .. digest .. '!', 'LIMIT', 0, 1)[1]
  local was = same and string.match(same, '^%S+ %S+ (.*)$')
  local before = was and redis.call('HGET', group.members, was)
  if not before then
    tell(group, '"+"', json)
    return '+'
  end
  drop(group, was, before)
  tell(group, '"~"', cjson.encode(was), json)
  return '~' .. was
end

local function depart(group, client, reason, grace)
  local packed = redis.call('HGET', group.members, client)
  if not packed then
    -- The server has lost it, or somebody has struck it off: who knows it is told that it is gone.
    redis.call('ZREM', index, group.name .. ' ' .. client)
    left(group, client, reason)
    return '?'
  end
  if grace == 0 then
    return strike(group, client, reason)
  end
  redis.call('ZREM', index, group.name .. ' ' .. client)
  local digest, due = parts(packed), now + grace
  if redis.call('ZADD', leaving, 'NX', due, group.name .. ' ' .. client) == 1 and digest ~= '-' then
    redis.call('ZADD', group.back, 0, back_entry(digest, due, client))
  end
  return 'l'
end

local function expire(group, client)
  local due = redis.call('ZSCORE', leaving, group.name .. ' ' .. client)
  if due and tonumber(due) <= now then
    return strike(group, client, 'left')
  end
  return ''
end

local function lose(group, client)
  if redis.call('ZSCORE', index, group.name .. ' ' .. client) then
    return strike(group, client, 'lost')
  end
  return ''
end

local results = {}
for place = FIRST, #ARGV, STRIDE do
  local group, verb, client = groups[tonumber(ARGV[place])], ARGV[place + 1], ARGV[place + 2]
  local result
  if verb == '+' then
    result = enter(group, client, ARGV[place + 3])
  elseif verb == '-' then
    result = depart(group, client, ARGV[place + 3], tonumber(ARGV[place + 4]))
  elseif verb == 'x' then
    result = expire(group, client)
  else
    result = lose(group, client)
  end
  results[#results + 1] = result
end

local has, counts = redis.call('EXISTS', index), {}
if kind ~= 'due' then
  if has == 0 then
    redis.call('HDEL', here, process)
  elseif kind ~= 'lost' then
    redis.call('HSET', here, process, mark .. ' 0')
  end
end
for _, group in ipairs(groups) do
  counts[#counts + 1] = group.before
  counts[#counts + 1] = redis.call('HLEN', group.members)
  if #group.news > 0 then
    redis.call('SPUBLISH', group.channel, '@[' .. table.concat(group.news, ',') .. ']')
  end
end
local dead = kind == 'anew' and redis.call('DEL', trace) or 0
local answer = {1, dead, has, counts, results}
redis.call('SET', ticket, number .. ' ' .. cmsgpack.pack(answer), 'PX', ANSWER)
return answer
