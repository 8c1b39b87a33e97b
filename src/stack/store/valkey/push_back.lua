-- Begins the pause of an instance after a 429, or makes it longer. Continues turns.lua, which says what KEYS,
-- ARGV 1 to 5 and the reply are.
-- ARGV 6: the pause that Hypersender asks for, 5 min at most, or -1 without a hint: then pauses grow from 1 s
-- to 30 s. ARGV 7: 1 if the caller has had an answer since the last pause that it knows of, so that they
-- begin again. No turn comes in the pause, and no burst right after it. The wait in the reply is its rest.
local asked = math.min(tonumber(ARGV[6]), 300e6)
if ARGV[7] == '1' or paused + 30e6 <= now then
  longer = 1e6
end
if paused <= now then
  if asked < 0 then
    asked = longer
  end
  longer = math.min(longer * 2, 30e6)
end
-- A request that was on the wire when the pause began belongs to the same refusal.
paused = math.max(paused, now + math.max(asked, 0))
free = math.max(free, paused + slack)
return reply(1, paused - now)
