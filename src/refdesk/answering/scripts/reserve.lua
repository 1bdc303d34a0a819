-- Sets tokens and cost aside in every window at once, or says which limit is reached, what it has now, and when to come again.
-- KEYS: reservations (sorted by expiry), tokens they reserve (hash), cost they reserve (hash), then a count for each window
-- ARGV: now, reservation, tokens, cost, answers at a time, lease, then for each window: name, unit, limit, left of it,
--       whether its count may be unknown

local now = tonumber(ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
end
local wanted = {tokens = tonumber(ARGV[3]), cost = tonumber(ARGV[4])}
local held = {tokens = 0, cost = 0}
for _, amount in ipairs(redis.call('HVALS', KEYS[2])) do held.tokens = held.tokens + tonumber(amount) end
for _, amount in ipairs(redis.call('HVALS', KEYS[3])) do held.cost = held.cost + tonumber(amount) end
local open = redis.call('ZCARD', KEYS[1])
if open >= tonumber(ARGV[5]) then return {'concurrent', open, 1} end
for place = 4, #KEYS do
  local at = 7 + (place - 4) * 5
  local name, unit, limit = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local count = redis.call('GET', KEYS[place])
  if not count and ARGV[at + 4] == '1' then return {'unknown', place - 4, 0} end
  local used = tonumber(count or '0') + held[unit]
  if used + wanted[unit] > limit then return {name, string.format('%.0f', used), ARGV[at + 3]} end
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[6]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], 172800)
redis.call('EXPIRE', KEYS[2], 172800)
if wanted.cost > 0 then
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[4])
  redis.call('EXPIRE', KEYS[3], 172800)
end
return {'ok', 0, 0}
