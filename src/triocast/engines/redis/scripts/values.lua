#!lua flags=no-writes
-- Reads a page of a group's last values, oldest first, and its position.
-- KEYS: meta values order
-- ARGV: the offset they come after, limit, bytes after which no more is read
-- Returns {epoch, offset of the newest message, values, 1 if bytes ended it}, with an empty epoch for a group that is
-- not known
local CHUNK = 16 -- values looked at in one go
local limit, budget = tonumber(ARGV[2]), tonumber(ARGV[3])
local meta = redis.call('HMGET', KEYS[1], 'e', 'o')
if not meta[1] then
  return {'', 0, {}, 0}
end
local fields = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf', 'LIMIT', 0, limit)
local found, weight = {}, 0
for place = 1, #fields, CHUNK do
  for _, value in ipairs(redis.call('HMGET', KEYS[2], unpack(fields, place, math.min(place + CHUNK - 1, #fields)))) do
    found[#found + 1] = value
    weight = weight + #value
    if weight > budget then
      return {meta[1], tonumber(meta[2]), found, 1}
    end
  end
end
return {meta[1], tonumber(meta[2]), found, 0}
