-- Notes that the token was rejected, unless the scope has no record, an attempt that began later was
-- answered, or a later rejection is noted. An answered attempt whose time has not come is from before the
-- clock was set back: it cannot be compared, so a new epoch hides the answers.
-- KEYS: scope. ARGV: how long ago the rejection was, in us; time to live of the scope in ms.
-- Returns: the rejection that is noted now, in ms; nil when there is none.
local epoch, rejected, answered = scope(KEYS[1])
if not epoch then return false end
local time = now()
local at = math.max(math.floor((time - ARGV[1]) / 1000), 0)
if (answered or -1) * 1000 > time then
  at = math.max(at, rejected or 0)
  local renewed, failed = renew_epoch(KEYS[1], epoch, at)
  if not renewed then return failed end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return at
end
if (answered or -1) <= at and (rejected or -1) < at then
  redis.call('HSET', KEYS[1], 'r', string.format('%.0f', at))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return at
end
return rejected or false
