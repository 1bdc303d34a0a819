-- Books what was used of a reservation, and gives the rest back; 0 when it is not there any more.
-- KEYS: as in reserve.lua
-- ARGV: reservation, tokens used, cost used, then for each window: unit, how long its count is kept

if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
local used = {tokens = ARGV[2], cost = ARGV[3]}
for place = 4, #KEYS do
  local at = 4 + (place - 4) * 2
  local amount = used[ARGV[at]]
  if tonumber(amount) > 0 then
    redis.call('INCRBY', KEYS[place], amount)
    redis.call('EXPIRE', KEYS[place], ARGV[at + 1])
  end
end
return 1
