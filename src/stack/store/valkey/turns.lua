-- The turns of an instance at this moment. turn.lua, give_back.lua and push_back.lua continue this script.
-- KEYS: the record (hash), the turns given back (sorted set); both expire 1 h after the last turn. Times are
-- in microseconds from now on. ARGV: interval; slack; and what the caller knows, or zeros: furthest booked
-- turn, rest of the pause, number of changes. A record with fewer changes has lost some: the later times hold.
-- Reply: time, 1 if taken, wait, furthest booked turn with slack, next spare turn, rest of the pause, changes.
local time, interval, slack = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2])
local now, text = time[1] * 1e6 + time[2], function(number) return string.format('%.0f', number) end
local record = redis.call('HMGET', KEYS[1], 'free_at', 'spare_at', 'paused_until', 'next', 'changes', 'at')
local shift = math.min(0, now - tonumber(record[6] or now)) -- its clock stepped back
local free, spare = tonumber(record[1] or now + slack) + shift, tonumber(record[2] or now + slack) + shift
local paused, longer, changes = tonumber(record[3] or now) + shift, tonumber(record[4] or 1e6), tonumber(record[5] or -1)
local known, later = tonumber(ARGV[5]), math.max(0, ARGV[3] - math.max(0, free - now))
local is_changed = known > changes or known == changes and later > 1e6 -- its clock stepped forward
if is_changed then
  free, spare, paused = math.max(now, free) + later, math.max(now, spare) + later, math.max(paused, now + ARGV[4])
end
local most = math.max(now, math.min(paused, now + 300e6)) + slack + interval + 15e6
is_changed = is_changed or shift < 0 or paused > now + 300e6 or free > most
if is_changed then redis.call('DEL', KEYS[2]) end
free, spare, paused = math.min(free, most), math.min(spare, most), math.min(paused, now + 300e6)
local function reply(is_taken, wait)
  if is_taken == 1 or is_changed then
    changes = changes + 1
    redis.call('HSET', KEYS[1], 'free_at', text(free), 'spare_at', text(spare), 'paused_until', text(paused),
      'next', text(longer), 'changes', text(changes), 'at', text(now))
    for key = 1, 2 do redis.call('PEXPIRE', KEYS[key], text((math.max(free, paused, now) - now) / 1e3 + 36e5)) end
  end
  return { now, is_taken, wait, math.max(0, free - now), math.max(0, spare - now), math.max(0, paused - now), changes }
end
