#!lua
-- Says where a group stands, which is made if there is none, and keeps that for its time.
-- KEYS: meta stream values order
-- ARGV: epoch (if the group is new), position_ttl in ms
-- Returns {epoch, offset, id of the newest message}
local meta = KEYS[1]
if redis.call('EXISTS', meta) == 0 then
  redis.call('DEL', unpack(KEYS, 2))
  redis.call('HSET', meta, 'e', ARGV[1], 'o', 0, 'i', '', 'w', 0)
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[2])
end
return redis.call('HMGET', meta, 'e', 'o', 'i')
