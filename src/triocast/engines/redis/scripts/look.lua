#!lua
-- Looks who in groups of one partition is to be struck off, and shows that a process lives that has members there.
-- KEYS: here leaving
-- ARGV: process, something new, how many members at most
-- Returns {what `here` has of the process, members whose grace is over, {process, what `here` has of it, ...}}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local told = redis.call('HGETALL', KEYS[1])
local mine = ''
for place = 1, #told, 2 do
  if told[place] == ARGV[1] then
    mine = string.match(told[place + 1], '^%S+')
  end
end
if mine ~= '' and mine ~= '!' then
  redis.call('HSET', KEYS[1], ARGV[1], mine .. ' ' .. ARGV[2])
end
return {mine, redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3]), told}
