-- Takes a turn of an instance, or looks at its turns. Continues turns.lua, which says what KEYS, ARGV 1 to 5
-- and the reply are.
-- ARGV 6: `book` takes the next turn, if it comes within the time in ARGV 7 and within 15 s; `spare` takes
-- one if it is free now and nothing is owed; `look` takes none.
-- The wait in the reply: that for the turn, or until one would come; for `look`, until the next turn.
local from, at, is_taken = math.max(now, paused), math.max(now, spare, paused), 0
if ARGV[6] == 'spare' then
  if at == now then
    is_taken, spare = 1, now + interval
    free = math.max(free, spare)
  end
  return reply(is_taken, at - now)
end
local back = redis.call('ZRANGEBYSCORE', KEYS[2], text(from), '+inf', 'LIMIT', 0, 1)[1]
at = tonumber(back or math.max(from, free - slack))
if ARGV[6] == 'book' and at - now <= math.min(tonumber(ARGV[7]), 15e6) then
  is_taken = 1
  if back then
    redis.call('ZREM', KEYS[2], back)
  else
    free, spare = math.max(free, now) + interval, math.max(spare, at) + interval
  end
end
return reply(is_taken, at - now)
