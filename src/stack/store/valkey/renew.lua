-- Renews a lease that the caller still has.
-- KEYS: lease. ARGV: its id; its time in ms.
-- Returns: 1 if the caller has it, else 0.
if value(KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
