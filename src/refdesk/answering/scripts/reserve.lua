-- Sets tokens aside in every window at once, or says which limit is reached, what it has now, and when to come again.
-- KEYS: tokens of the minute, tokens of the day, reservations (sorted by expiry), what they reserve (hash)
-- ARGV: now, reservation, tokens, limits (tokens a minute, tokens a day, answers at a time), lease, left of minute, left of day

local now = tonumber(ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)) do
  redis.call('ZREM', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
end
local tokens = tonumber(ARGV[3])
local held = 0
for _, amount in ipairs(redis.call('HVALS', KEYS[4])) do held = held + tonumber(amount) end
local open = redis.call('ZCARD', KEYS[3])
if open >= tonumber(ARGV[6]) then return {'concurrent', open, 1} end
local minute = tonumber(redis.call('GET', KEYS[1]) or '0') + held
if minute + tokens > tonumber(ARGV[4]) then return {'tokens_per_minute', minute, ARGV[8]} end
local day = tonumber(redis.call('GET', KEYS[2]) or '0') + held
if day + tokens > tonumber(ARGV[5]) then return {'tokens_per_day', day, ARGV[9]} end
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[7]), ARGV[2])
redis.call('HSET', KEYS[4], ARGV[2], tokens)
redis.call('EXPIRE', KEYS[3], 172800)
redis.call('EXPIRE', KEYS[4], 172800)
return {'ok', 0, 0}
