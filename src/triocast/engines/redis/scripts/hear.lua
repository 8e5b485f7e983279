#!lua
-- Notes that one process hears orders, and returns those of the last minute.
-- KEYS: orders hearers
-- ARGV: process
-- Returns {now in ms, id, order, ...}
local STAYS = 60000 -- ms an order is kept, and a process counts that has not said that it hears
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PEXPIRE', KEYS[2], STAYS)
local told = {now}
for _, each in ipairs(redis.call('XRANGE', KEYS[1], string.format('%.0f', now - STAYS), '+')) do
  told[#told + 1] = each[1]
  told[#told + 1] = each[2][2]
end
return told
