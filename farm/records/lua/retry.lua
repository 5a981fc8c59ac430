-- ARGV: job, nonce of the question. A failed, cancelled or finished job is asked for again: its old result is archived,
-- its run and compare start over; attempt numbers go on rising. So does what they need and has not been done; of a job
-- that is not done also what was done for it alone: one whose artifact is there finds it. What another job counts on
-- stays as it is: its artifact is repaired when it turns out to be lost. Answers 1 or 0.
local job = ARGV[1]
local at = key('j', job)
if call('HGET', at, 'asked') == ARGV[2] then return 1 end
local state = call('HGET', at, 'state')
if not (state == 'done' or state == 'failed' or state == 'cancelled') then return 0 end
local stages = cjson.decode(call('HGET', at, 'stages'))
local old = {}
for kind, stage in pairs(stages) do old[kind] = get(stage, 'outcome') or cjson.null end
local archive = cjson.decode(call('HGET', at, 'archive') or '[]')
archive[#archive + 1] = {state = state, outcomes = old, at = now_ms()}
call('HSET', at, 'archive', cjson.encode(archive))

-- Whether something that depends on the stage is not at its end, or made a result.
local function is_counted_on(stage)
  for _, next in ipairs(cjson.decode(get(stage, 'feeds'))) do
    local n = call('HMGET', key('s', next), 'state', 'job')
    if not FINAL[n[1]] or (n[2] and call('HGET', key('j', n[2]), 'state') == 'done') or is_counted_on(next) then
      return true
    end
  end
  return false
end

-- What starts over, each stage after those it needs; all is judged before anything changes.
local order, seen = {}, {}
local function visit(stage)
  if seen[stage] then return end
  seen[stage] = true
  local s = call('HMGET', key('s', stage), 'state', 'needs', 'artifact')
  for _, need in ipairs(cjson.decode(s[2])) do visit(need) end
  local own = stage == stages.run or stage == stages.compare
  if own or (FINAL[s[1]] and s[1] ~= 'done') or (s[1] == 'done' and state ~= 'done' and not is_counted_on(stage)) then
    order[#order + 1] = stage
  elseif s[1] == 'done' and s[3] then
    -- What the new run reads is needed again.
    call('SADD', key('a', s[3], 'stages'), stage)
  end
  -- It may be repaired as often as before.
  local origin = string.match(stage, '^(.*)~%d+$') or stage
  local repairs = get(origin, 'repairs')
  if repairs then call('HSET', key('s', origin), 'forgiven', repairs) end
end
visit(stages.run)
visit(stages.compare)

for _, stage in ipairs(order) do
  local s = key('s', stage)
  local r = call('HMGET', s, 'state', 'campaign', 'needs', 'expected', 'kind')
  local blockers = 0
  for _, need in ipairs(cjson.decode(r[3])) do
    if get(need, 'state') ~= 'done' then blockers = blockers + 1 end
  end
  call('HINCRBY', key('c', r[2]), 's:' .. r[5] .. ':' .. r[1], -1)
  call('HINCRBY', key('c', r[2]), 's:' .. r[5] .. ':waiting', 1)
  if r[5] == 'run' then call('HINCRBYFLOAT', key('c', r[2]), 'expected_done', -tonumber(r[4] or '0')) end
  call('HSET', s, 'state', 'waiting', 'blockers', blockers, 'failures', '{}', 'avoid', '[]', 'error', '', 'error_kind', '', 'log', '')
  -- Nobody speaks for an earlier attempt any more.
  call('HDEL', s, 'token')
  -- What an unfinished repair has from the stage it repairs is read by others meanwhile.
  if r[1] == 'done' or stage == stages.run or stage == stages.compare then call('HDEL', s, 'outcome') end
  if blockers == 0 then make_ready(stage) end
end
set_job(job, 'waiting')
call('HDEL', key('c', call('HGET', at, 'campaign')), 'last_end', 'pace')
call('HSET', at, 'asked', ARGV[2])
call('HDEL', at, 'finished')
call('HINCRBY', key('c', call('HGET', at, 'campaign')), 'changes', 1)
return 1
