-- Stores an answer of the scope's present epoch, unless a newer one is stored, or the token was rejected
-- after the attempt began. A stored one whose time has not come is from before the clock was set back, and
-- counts as older. Ends the cool-downs and releases the lease. A success lifts an earlier
-- rejection.
-- KEYS: scope, scope's failure, answer, lease, failure, turns of the instance.
-- ARGV: sealed answer; its time to live in ms; its epoch; 1 if the epoch is new, for a scope without a
-- record; the time in ms of a stored answer that cannot be read, -1 for none; the lease's id; time to live
-- of the scope.
-- Returns: now in us; 0 stored, 1 outdated, 2 another epoch, 3 no scope; with 2 the present epoch.
local epoch, rejected, answered = scope(KEYS[1])
if epoch and epoch ~= ARGV[3] then return {now(), 2, epoch} end
if not epoch and ARGV[4] ~= '1' then return {now(), 3} end
local asked, stored = header(ARGV[1]), header(value(KEYS[3]))
local result = {now(), 0}
local is_newer = stored > asked and stored * 1000 <= result[1] and stored ~= tonumber(ARGV[5])
if rejected and asked <= rejected or is_newer then
  result[2] = 1
else
  -- The first write comes first: a server that is full refuses no further ones.
  redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
  if not epoch then redis.call('DEL', KEYS[1]) end
  redis.call('HSET', KEYS[1], 'e', ARGV[3], 'o', string.format('%.0f', math.max(asked, answered or 0)))
  redis.call('HDEL', KEYS[1], 'r')
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
  redis.call('DEL', KEYS[5], KEYS[2])
  redis.pcall('HDEL', KEYS[6], 'next')
end
if value(KEYS[4]) == ARGV[6] then redis.call('DEL', KEYS[4]) end
return result
