-- Reads the records of a contact. Takes the lease of the fetch if one is wanted and nothing is stored that
-- is newer than the caller has seen. An answer that a rejected token hides is not newer.
-- KEYS: scope, scope's failure, answer, lease, failure.
-- ARGV: the lease's id, or nothing for none; its time in ms; the times in ms of the answer, the failure and
-- the scope's failure that the caller has seen, -1 for none.
-- Returns: now in us, epoch, rejected in ms, answer, failure, scope's failure (each nil when absent), and
-- the lease: 0 not wanted or something is newer, 1 taken, 2 held by another caller.
local epoch, rejected = scope(KEYS[1])
local answer, failure, scope_failure = value(KEYS[3]), value(KEYS[5]), value(KEYS[2])
local asked = header(answer)
local is_valid = epoch and not (rejected and asked <= rejected)
local is_newer = is_valid and asked > tonumber(ARGV[3]) or header(failure) > tonumber(ARGV[4])
  or header(scope_failure) > tonumber(ARGV[5])
local lease = 0
if ARGV[1] ~= '' and not is_newer then
  local holder = value(KEYS[4])
  lease = (holder and holder ~= ARGV[1]) and 2 or 1
  if not holder then redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2]) end
end
return {now(), epoch or false, rejected or false, answer, failure, scope_failure, lease}
