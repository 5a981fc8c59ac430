-- What the records know of artifacts: how large, when last asked for, and who still needs them.

-- An artifact is there, with so many bytes: meta's `stored` is the sum over farm:artifacts.
local function keep(artifact, bytes)
  local was = tonumber(call('HGET', key('a', artifact), 'bytes') or '0')
  call('HSET', key('a', artifact), 'bytes', bytes)
  call('HINCRBY', key('meta'), 'stored', bytes - was)
  call('ZADD', key('artifacts'), now_ms(), artifact)
end

-- It is not there any more. Who asked for it stays known: to them it is made again.
local function forget(artifact)
  call('HINCRBY', key('meta'), 'stored', -tonumber(call('HGET', key('a', artifact), 'bytes') or '0'))
  call('ZREM', key('artifacts'), artifact)
  call('DEL', key('a', artifact))
end

-- A stage is done with an artifact that was in the store before it. What was to make way for others stays: who removes
-- asks first.
local function find(stage, artifact, bytes)
  call('SADD', key('a', artifact, 'stages'), stage)
  if call('HGET', key('a', artifact), 'state') ~= 'building' then
    call('HSET', key('a', artifact), 'state', 'present')
    keep(artifact, bytes)
  end
end

-- How many stages one script looks at before it takes artifacts for needed unseen.
local LOOK = 5000

local function unfinished(stage, look)
  look.left = look.left - 1
  if look.left < 0 then return true end
  local s = call('HMGET', key('s', stage), 'state', 'feeds')
  if not s[1] then return false end
  if not FINAL[s[1]] then return true end
  for _, next in ipairs(cjson.decode(s[2])) do
    if unfinished(next, look) then return true end
  end
  return false
end

-- Whether a stage that asked for it, or one that depends on such a stage, is not final. So the inputs of a
-- claimed or waiting stage are pinned, without any count that could drift. Stages that need it no more are dropped.
local function needed(artifact, look)
  local stages = key('a', artifact, 'stages')
  for _, stage in ipairs(call('SMEMBERS', stages)) do
    if unfinished(stage, look) then return true end
    call('SREM', stages, stage)
  end
  return false
end

-- A build ended, well or not: the stages parked for it look again.
local function unpark(artifact)
  for _, stage in ipairs(call('SMEMBERS', key('a', artifact, 'waiters'))) do
    local s = call('HMGET', key('s', stage), 'state', 'blockers')
    if s[1] == 'waiting' and tonumber(s[2]) <= 0 then make_ready(stage) end
  end
  call('DEL', key('a', artifact, 'waiters'))
end

-- This attempt is the one that builds the artifact.
local function begin_build(stage, token, artifact)
  call('HSET', key('a', artifact), 'state', 'building', 'stage', stage, 'token', token)
  call('SADD', key('a', artifact, 'stages'), stage)
end

-- An attempt whose lease had lapsed goes on: it builds its artifact as before, unless somebody else does or did.
local function build_again(stage, token)
  local artifact = get(stage, 'artifact')
  if artifact and call('EXISTS', key('a', artifact)) == 0 then begin_build(stage, token, artifact) end
end

-- The stage's attempt at its artifact ended. bytes: of the artifact that is there, '' where they were not told;
-- nil: there is none of this attempt.
local function end_build(stage, token, bytes)
  local artifact = get(stage, 'artifact')
  if not artifact or artifact == '' then return end
  local a = call('HMGET', key('a', artifact), 'state', 'token', 'bytes')
  local mine = a[1] == 'building' and a[2] == token
  if bytes then
    -- Also after the lease lapsed: what depends on the stage reads the artifact, whoever is said to build it now.
    call('SADD', key('a', artifact, 'stages'), stage)
    if mine or a[1] == 'present' or not a[1] then
      call('HSET', key('a', artifact), 'state', 'present')
      keep(artifact, tonumber(bytes) or tonumber(a[3] or '0'))
    end
  elseif mine then
    call('DEL', key('a', artifact))
    call('SREM', key('a', artifact, 'stages'), stage)
  end
  if mine then unpark(artifact) end
end
