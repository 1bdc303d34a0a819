-- Books what was used of a reservation, and gives the rest back; 0 when it is not there any more.
-- KEYS: as in reserve.lua
-- ARGV: reservation, tokens used

if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[4], ARGV[1])
if tonumber(ARGV[2]) > 0 then
  redis.call('INCRBY', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[1], 120)
  redis.call('INCRBY', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[2], 172800)
end
return 1
