-- Renews the lease if it is ours or nobody's, and appends the batch if it is the next.
-- The last event in the stream, or 0 when the lease is somebody else's.
-- KEYS: log, lease
-- ARGV: owner, lease in ms, event before the batch, batch, its last event, first event of any log, retention in seconds

local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local last = tonumber(ARGV[6]) - 1
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then last = tonumber(string.match(newest[1], '^%d+')) end
if ARGV[4] ~= '' and tonumber(ARGV[3]) == last then
  last = tonumber(ARGV[5])
  redis.call('XADD', KEYS[1], last .. '-0', 'e', ARGV[4])
  redis.call('EXPIRE', KEYS[1], ARGV[7])
end
return last
