-- Notes that the token was rejected, unless the scope has no record, an attempt that began later was
-- answered, or a later rejection is noted.
-- KEYS: scope. ARGV: how long ago the rejection was, in us; time to live of the scope in ms.
-- Returns: the rejection that is noted now, in ms; nil when there is none.
local epoch, rejected, answered = scope(KEYS[1])
if not epoch then return false end
local at = math.max(math.floor((now() - ARGV[1]) / 1000), 0)
if (answered or -1) <= at and (rejected or -1) < at then
  redis.call('HSET', KEYS[1], 'r', string.format('%.0f', at))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return at
end
return rejected or false
