-- ARGV: stage, token, artifact. What is to be done about the stage's artifact:
-- 'present' (look in the store), 'build' (this attempt builds it), 'wait' (another does: the stage is parked),
-- 'condemned' (it is to be removed first), 'lost'.
local stage, token, artifact = ARGV[1], ARGV[2], ARGV[3]
local r = call('HMGET', key('s', stage), 'state', 'token', 'attempt')
if r[1] ~= 'claimed' or r[2] ~= token then return refuse(stage, token, 'lost') end
local a = call('HMGET', key('a', artifact), 'state', 'stage', 'token')
if a[1] == 'condemned' then return 'condemned' end
call('SADD', key('a', artifact, 'stages'), stage)
if a[1] == 'present' then
  call('HSET', key('s', stage), 'artifact', artifact)
  return 'present'
end
if a[1] == 'building' and a[3] ~= token then
  local b = call('HMGET', key('s', a[2]), 'state', 'token')
  if b[1] == 'claimed' and b[2] == a[3] then
    call('SADD', key('a', artifact, 'waiters'), stage)
    end_attempt(stage, tonumber(r[3]), {outcome = 'parked', artifact = artifact})
    move(stage, 'waiting')
    return 'wait'
  end
end
begin_build(stage, token, artifact)
call('HSET', key('s', stage), 'artifact', artifact)
return 'build'
