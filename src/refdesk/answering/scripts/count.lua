-- Counts one of its kind unless the limit is reached; then says how many there were, else -1.
-- KEYS: the count of this minute
-- ARGV: limit

local requests = tonumber(redis.call('GET', KEYS[1]) or '0')
if requests >= tonumber(ARGV[1]) then return requests end
redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], 120)
return -1
