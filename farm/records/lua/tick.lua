-- ARGV: coordinator, ms a silent worker is kept. Advances the farm clock by at most 1 s, ends backoffs,
-- forgets silent workers. Any number of coordinators may tick: the clock follows Redis's time once.
-- Answers up to 200 stages whose lease has lapsed.
local now = now_ms()
local wall = tonumber(call('HGET', key('meta'), 'wall') or now)
local at = call('HINCRBY', key('meta'), 'clock', math.max(0, math.min(1000, now - wall)))
call('HSET', key('meta'), 'wall', now)
call('ZADD', key('coordinators'), now, ARGV[1])
for _, stage in ipairs(call('ZRANGEBYSCORE', key('later'), '-inf', at, 'LIMIT', 0, 200)) do
  call('ZREM', key('later'), stage)
  if get(stage, 'state') == 'ready' then enqueue(stage) end
end
for _, worker in ipairs(call('ZRANGEBYSCORE', key('workers'), '-inf', at - tonumber(ARGV[2]), 'LIMIT', 0, 200)) do
  forget_worker(worker)
end
return call('ZRANGEBYSCORE', key('leases'), '-inf', at, 'LIMIT', 0, 200)
