-- Counts some of a kind at once, unless the limit is reached; then says how many there were, else -1.
-- KEYS: the count of this minute
-- ARGV: limit, how many: the last of a minute may go beyond it

local requests = tonumber(redis.call('GET', KEYS[1]) or '0')
if requests >= tonumber(ARGV[1]) then return requests end
redis.call('INCRBY', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 120)
return -1
