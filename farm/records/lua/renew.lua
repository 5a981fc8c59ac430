-- ARGV: stage, token, worker, lease ms. Answers 'ok', 'cancelled' or 'lost'.
-- A lease that lapsed is taken up again while nobody else has claimed the stage: its worker goes on with what it did.
local stage, token, worker, lease_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local r = call('HMGET', key('s', stage), 'state', 'token', 'kind', 'campaign', 'queue', 'phase', 'expected')
if r[1] == 'cancelled' then return 'cancelled' end
if r[2] ~= token then return 'lost' end
if r[1] == 'ready' then
  unqueue(stage, r[3], r[4])
  move(stage, 'claimed')
  take(stage, worker, r[5] or '', lease_ms)
  if r[3] == 'run' and r[6] == 'run' then
    hold(stage, r[5])
  elseif r[3] == 'run' then
    call('ZADD', key('prepared'), r[7] or 0, stage)
  else
    build_again(stage, token)
  end
elseif r[1] ~= 'claimed' then
  return 'lost'
end
call('ZADD', key('leases'), clock() + lease_ms, stage)
return 'ok'
