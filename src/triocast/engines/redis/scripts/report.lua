#!lua
-- Notes how many subscribers one process has in groups of one partition, and that it is alive.
-- KEYS: processes names ages, then for each group: census meta
-- ARGV: process, then for each group: "subscribers behind", or nothing where it has none
-- Returns 1 if the process was known
local GONE = 60000 -- ms after which a process that reports nothing is forgotten
local STAYS = 90000 -- ms for which what was reported of a group stays; it is told again before
local MOST = 100 -- groups that are forgotten in one step, of those that nobody reports any more
local processes, names, ages, process = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', processes, '-inf', now - GONE)
local new = redis.call('ZADD', processes, now, process)
redis.call('PEXPIRE', processes, GONE)

-- The names and the ages are of the same groups: one set is ordered by name, the other by when they were last told of.
local function forget(group)
  redis.call('ZREM', names, group)
  redis.call('ZREM', ages, group)
end

-- What processes that are forgotten said of a group that others go on to tell of.
local function clean(census)
  if redis.call('HLEN', census) > redis.call('ZCARD', processes) then
    for _, each in ipairs(redis.call('HKEYS', census)) do
      if not redis.call('ZSCORE', processes, each) then
        redis.call('HDEL', census, each)
      end
    end
  end
end

for place = 2, #ARGV do
  local census, meta = KEYS[2 * place], KEYS[2 * place + 1]
  local group = string.match(census, '}:n:(.*)$')
  if ARGV[place] == '' then
    redis.call('HDEL', census, process)
    if redis.call('EXISTS', census) == 0 then
      forget(group)
    end
  else
    redis.call('HSET', census, process, ARGV[place])
    redis.call('PEXPIRE', census, STAYS)
    redis.call('ZADD', names, 0, group)
    redis.call('ZADD', ages, now, group)
    clean(census)
  end
  redis.call('HDEL', meta, 'q') -- the sums of publish.lua
end
for _, group in ipairs(redis.call('ZRANGEBYSCORE', ages, '-inf', now - STAYS, 'LIMIT', 0, MOST)) do
  forget(group)
end
if #ARGV > 1 then
  redis.call('PEXPIRE', names, STAYS)
  redis.call('PEXPIRE', ages, STAYS)
end
return 1 - new
