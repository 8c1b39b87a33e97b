-- Shares a cool-down, unless a later one is stored or the scope never had an answer. Releases the lease in
-- any case.
-- KEYS: scope, failure, lease.
-- ARGV: sealed failure; its time to live in ms; the lease's id.
-- Returns: now in us.
local result = now()
if scope(KEYS[1]) and header(value(KEYS[2])) <= header(ARGV[1]) then
  local set = redis.pcall('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  if set.err then result = set end
end
if value(KEYS[3]) == ARGV[3] then redis.call('DEL', KEYS[3]) end
return result
