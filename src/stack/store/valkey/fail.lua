-- Shares a cool-down, unless a later one is stored, an attempt that began after the failure was answered, or
-- the scope never had an answer. Times that have not come are from before the clock was set back, and do not
-- count. Releases the lease in any case.
-- KEYS: scope, failure, lease, answer of the contact; without the last one it is the cool-down of the scope.
-- ARGV: sealed failure; its time to live in ms; the lease's id.
-- Returns: now in us.
local result = now()
local epoch, _, answered = scope(KEYS[1])
local began, latest = header(ARGV[1]), answered or -1
if KEYS[4] then latest = header(value(KEYS[4])) end
local function is_later(time) return time > began and time * 1000 <= result end
if epoch and not is_later(header(value(KEYS[2]))) and not is_later(latest) then
  local set = redis.pcall('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  if set.err then result = set end
end
if value(KEYS[3]) == ARGV[3] then redis.call('DEL', KEYS[3]) end
return result
