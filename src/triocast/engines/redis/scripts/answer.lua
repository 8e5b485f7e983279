#!lua
-- Notes that one process has carried out an order.
-- KEYS: answers
-- ARGV: how many of its connections the order was true of
local STAYS = 30000 -- ms; whoever asked waits for two seconds
redis.call('HINCRBY', KEYS[1], 'a', 1)
redis.call('HINCRBY', KEYS[1], 'n', ARGV[1])
redis.call('PEXPIRE', KEYS[1], STAYS)
