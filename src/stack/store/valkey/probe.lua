-- Finds out whether the server runs scripts and accepts writes.
-- KEYS: a name that nothing else uses. ARGV: its time to live in ms.
-- Returns: now in us.
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
local time = redis.call('TIME')
return time[1] * 1000000 + time[2]
