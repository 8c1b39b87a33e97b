-- Releases a lease that the caller still has.
-- KEYS: lease. ARGV: its id.
-- Returns: 1 if the caller had it, else 0.
if value(KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
