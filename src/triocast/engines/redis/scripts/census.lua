#!lua flags=no-writes
-- Says how many subscribers each process has in groups of one partition, as it last reported.
-- KEYS: processes, then a census for each group
-- ARGV: ms after which a process that reports nothing counts no more
-- Returns for each group {process, "subscribers behind", ...}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local alive = {}
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now - ARGV[1], '+inf')) do
  alive[process] = true
end
local found = {}
for place = 2, #KEYS do
  local told, counts = redis.call('HGETALL', KEYS[place]), {}
  for index = 1, #told, 2 do
    if alive[told[index]] then
      counts[#counts + 1] = told[index]
      counts[#counts + 1] = told[index + 1]
    end
  end
  found[place - 1] = counts
end
return found
