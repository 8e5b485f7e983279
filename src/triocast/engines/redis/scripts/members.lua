#!lua flags=no-writes
-- Reads a page of a group's members, in the order of their connections.
-- KEYS: members order users
-- ARGV: where it begins, as ZRANGEBYLEX has it; limit
-- Returns {how many members, how many users, 1 if there are more, packed members}
local CHUNK = 100 -- members looked up in one go
local limit = tonumber(ARGV[2])
local clients = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, limit + 1)
local found = {}
for place = 1, math.min(limit, #clients), CHUNK do
  local last = math.min(place + CHUNK - 1, limit, #clients)
  for _, packed in ipairs(redis.call('HMGET', KEYS[1], unpack(clients, place, last))) do
    found[#found + 1] = packed
  end
end
return {redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[3]), #clients > limit and 1 or 0, found}
