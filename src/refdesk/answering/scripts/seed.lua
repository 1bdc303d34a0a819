-- Sets a count that nobody knew to what is booked.
-- KEYS: the window's count
-- ARGV: what is booked, how long it is kept

redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])
return 1
