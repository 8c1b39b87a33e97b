-- Gives back a turn that was booked and has not come yet. Continues turns.lua, which says what KEYS, ARGV 1
-- to 5 and the reply are.
-- ARGV 6: the time until the turn, inexact: the nearest of the booked turns is given back.
-- The last turns are not booked any more then. The others wait in their places for the next call. One that
-- has passed is lost, because taken later it would be close to others, and so is one in a pause.
local last = free - slack - interval
local turn = last - math.floor((last - now - ARGV[6]) / math.max(interval, 1) + 0.5) * interval
if not record[1] or interval == 0 or turn > last or turn <= now or turn < paused then
  return reply(0, 0)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. text(math.max(now, paused)))
redis.call('ZADD', KEYS[2], text(turn), text(turn))
while redis.call('ZREM', KEYS[2], text(free - slack - interval)) == 1 do
  free, spare = free - interval, spare - interval
end
return reply(1, 0)
