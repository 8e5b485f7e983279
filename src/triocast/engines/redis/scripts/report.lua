#!lua
-- Notes how many subscribers one process has in groups of one partition, and that it is alive.
-- KEYS: processes, then for each group: census meta
-- ARGV: process, then for each group: "subscribers behind", or nothing where it has none
-- Returns 1 if the process was known
local GONE = 60000 -- ms after which a process that reports nothing is forgotten
local STAYS = 90000 -- ms for which what was reported of a group stays; it is told again before
local process = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - GONE)
local new = redis.call('ZADD', KEYS[1], now, process)
redis.call('PEXPIRE', KEYS[1], GONE)
for place = 2, #ARGV do
  local census, meta = KEYS[2 * place - 2], KEYS[2 * place - 1]
  if ARGV[place] == '' then
    redis.call('HDEL', census, process)
  else
    redis.call('HSET', census, process, ARGV[place])
    redis.call('PEXPIRE', census, STAYS)
  end
  redis.call('HDEL', meta, 'q') -- the sums of publish.lua
end
return 1 - new
