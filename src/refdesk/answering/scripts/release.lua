-- Frees the key if this log holds it.
-- KEYS: key
-- ARGV: log

if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
