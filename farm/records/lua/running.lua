-- ARGV: stage, token, host. The card is held: the run starts. Answers 1, or 0 when the attempt is not its own any more.
local stage, token = ARGV[1], ARGV[2]
local r = call('HMGET', key('s', stage), 'state', 'token', 'queue')
if r[1] ~= 'claimed' or r[2] ~= token then return refuse(stage, token, 0) end
call('HSET', key('s', stage), 'phase', 'run')
call('ZREM', key('prepared'), stage)
hold(stage, r[3])
tell(call('HGET', key('s', stage), 'campaign'))
return 1
