-- The log that holds the key: another, or this one from now on.
-- KEYS: key
-- ARGV: log, retention in seconds

local holder = redis.call('GET', KEYS[1])
if holder then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
