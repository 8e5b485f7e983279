#!lua
-- Gives an order to all processes: tells those that hear, and keeps it for those that do not at the moment.
-- KEYS: orders hearers channel
-- ARGV: order
-- Returns its id, how many processes it was told to, and how many there are that heard in the last minute.
local KEPT = 1000 -- orders
local STAYS = 60000 -- ms an order is kept, and a process counts that has not said that it hears
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local id = redis.call('XADD', KEYS[1], 'MAXLEN', KEPT, '*', 'o', ARGV[1])
redis.call('PEXPIRE', KEYS[1], STAYS)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - STAYS)
return {id, redis.call('SPUBLISH', KEYS[3], id .. ' ' .. ARGV[1]), redis.call('ZCARD', KEYS[2])}
