-- ARGV: job, nonce of the question. A failed, cancelled or finished job is asked for again: its old result is archived, its run and
-- compare start over; attempt numbers go on rising. Of a job that is not done every stage starts over: one whose
-- artifact is there finds it, one whose artifact was lost makes it again. Answers 1 or 0.
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
for _, kind in ipairs({'export', 'reference', 'compile', 'run', 'compare'}) do
  local stage = stages[kind]
  local s = key('s', stage)
  local r = call('HMGET', s, 'state', 'campaign', 'needs', 'expected')
  local own = kind == 'run' or kind == 'compare'
  if FINAL[r[1]] and (own or state ~= 'done') then
    local blockers = 0
    for _, need in ipairs(cjson.decode(r[3])) do
      if get(need, 'state') ~= 'done' then blockers = blockers + 1 end
    end
    call('HINCRBY', key('c', r[2]), 's:' .. kind .. ':' .. r[1], -1)
    call('HINCRBY', key('c', r[2]), 's:' .. kind .. ':waiting', 1)
    if kind == 'run' then call('HINCRBYFLOAT', key('c', r[2]), 'expected_done', -tonumber(r[4] or '0')) end
    call('HSET', s, 'state', 'waiting', 'blockers', blockers, 'failures', '{}', 'avoid', '[]', 'error', '', 'error_kind', '', 'log', '')
    call('HDEL', s, 'outcome')
    if not own then
      -- Other jobs of the campaign count on this stage: those that wait must wait for it again.
      for _, next in ipairs(cjson.decode(get(stage, 'feeds'))) do
        local n = get(next, 'state')
        if n == 'waiting' then
          local open = 0
          for _, need in ipairs(cjson.decode(get(next, 'needs'))) do
            if get(need, 'state') ~= 'done' then open = open + 1 end
          end
          call('HSET', key('s', next), 'blockers', open)
        end
      end
    end
    if blockers == 0 then make_ready(stage) end
  elseif not own then
    -- What the new run reads is needed again.
    local artifact = get(stage, 'artifact')
    if artifact then call('SADD', key('a', artifact, 'stages'), stage) end
  end
end
set_job(job, 'waiting')
call('HDEL', key('c', call('HGET', at, 'campaign')), 'last_end', 'pace')
call('HSET', at, 'asked', ARGV[2])
call('HDEL', at, 'finished')
return 1
