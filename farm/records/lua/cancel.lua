-- ARGV: job, nonce of the question. Cancels what the job alone still needs. Answers 1 when anything was cancelled.
local function cancel(stage)
  local s = call('HMGET', key('s', stage), 'state', 'kind', 'campaign', 'token', 'attempt', 'needs')
  if not s[1] or FINAL[s[1]] then return 0 end
  unqueue(stage, s[2], s[3])
  if s[1] == 'claimed' then
    end_attempt(stage, tonumber(s[5]), {outcome = 'cancelled'})
    end_build(stage, s[4], nil)
  end
  call('HDEL', key('s', stage), 'token')
  move(stage, 'cancelled')
  for _, need in ipairs(cjson.decode(s[6])) do
    local wanted = false
    for _, next in ipairs(cjson.decode(get(need, 'feeds'))) do
      wanted = wanted or not FINAL[get(next, 'state')]
    end
    if not wanted then cancel(need) end
  end
  return 1
end

local j = call('HMGET', key('j', ARGV[1]), 'stages', 'asked')
if j[2] == ARGV[2] then return 1 end
local stages = cjson.decode(j[1])
local done = math.max(cancel(stages.run), cancel(stages.compare))
if done == 1 then call('HSET', key('j', ARGV[1]), 'asked', ARGV[2]) end
return done
