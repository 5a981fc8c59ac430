-- ARGV: stage, token, kind of the input it lost, the artifact that is gone, what is told of it, the revision to make
-- again ('' for none), most repairs of one stage. The attempt ends uncounted; the stage waits for a repair: a new
-- stage that is asked what the finished one was asked, which stays finished.
-- Answers 'wait', 'ready' (a repair was made meanwhile), 'spent' (no more repairs: nothing has changed), or 'late'.
local stage, token, kind, artifact = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local r = call('HMGET', key('s', stage), 'state', 'token', 'attempt', 'needs', 'job', 'campaign', 'claimed')
if r[1] ~= 'claimed' or r[2] ~= token then return refuse(stage, token, 'late') end

local needs, producer, at = cjson.decode(r[4]), nil, nil
for i, need in ipairs(needs) do
  if get(need, 'kind') == kind then producer, at = need, i end
end
-- A run and a compare read the export too, which is not among what they wait for.
if not producer then producer = cjson.decode(call('HGET', key('j', r[5]), 'stages'))[kind] end
local origin = string.match(producer, '^(.*)~%d+$') or producer
local p = call('HMGET', key('s', origin), 'repairs', 'ask', 'needs', 'score', 'expected', 'room', 'outcome', 'forgiven')
local made = tonumber(p[1] or '0')

local repair = made > 0 and origin .. '~' .. made or nil
local state = repair and get(repair, 'state')
local ready = false
if state == 'done' then
  local last = cjson.decode(call('LINDEX', key('s', repair, 'attempts'), -1))
  ready = get(repair, 'artifact') ~= artifact or last.ended > tonumber(r[7])
end
if not ready and (not repair or FINAL[state]) then
  if made - tonumber(p[8] or '0') >= tonumber(ARGV[7]) then return 'spent' end
  repair = origin .. '~' .. (made + 1)
  call('HSET', key('s', origin), 'repairs', made + 1)
  local open = 0
  for _, need in ipairs(cjson.decode(p[3])) do
    local n = call('HMGET', key('s', need), 'state', 'feeds')
    if n[1] ~= 'done' then open = open + 1 end
    local feeds = cjson.decode(n[2])
    feeds[#feeds + 1] = repair
    call('HSET', key('s', need), 'feeds', cjson.encode(feeds))
  end
  call('HSET', key('s', repair), 'campaign', r[6], 'kind', kind, 'ask', p[2], 'needs', p[3], 'feeds', '[]', 'blockers', open,
    'state', open == 0 and 'ready' or 'waiting', 'score', p[4], 'expected', p[5])
  -- Until it is done, who reads it through the job, and does not wait for it, reads what was made before.
  if p[7] then call('HSET', key('s', repair), 'outcome', p[7]) end
  if p[6] then call('HSET', key('s', repair), 'room', p[6]) end
  if ARGV[6] ~= '' then call('HSET', key('s', repair), 'again', ARGV[6]) end
  call('HINCRBY', key('c', r[6]), 's:' .. kind .. ':' .. (open == 0 and 'ready' or 'waiting'), 1)
  call('HINCRBY', key('c', r[6]), 'changes', 1)
  if open == 0 then enqueue(repair) end
end
if not ready and call('HGET', key('a', artifact), 'state') == 'present' then forget(artifact) end

local function without(list, name)
  local rest = {}
  for _, each in ipairs(list) do if each ~= name then rest[#rest + 1] = each end end
  return rest
end

local function write_feeds(of, list)
  call('HSET', key('s', of), 'feeds', #list > 0 and cjson.encode(list) or '[]')
end

if at then
  needs[at] = repair
  write_feeds(producer, without(cjson.decode(get(producer, 'feeds')), stage))
else
  needs[#needs + 1] = repair
end
local feeds = without(cjson.decode(get(repair, 'feeds')), stage)
feeds[#feeds + 1] = stage
write_feeds(repair, feeds)

-- The jobs that are still open read what the repair makes.
local function point(from)
  local s = call('HMGET', key('s', from), 'job', 'feeds')
  if s[1] then
    local j = call('HMGET', key('j', s[1]), 'stages', 'state')
    if j[2] == 'waiting' or j[2] == 'running' then
      local stages = cjson.decode(j[1])
      stages[kind] = repair
      call('HSET', key('j', s[1]), 'stages', cjson.encode(stages))
    end
  end
  for _, next in ipairs(cjson.decode(s[2])) do point(next) end
end

end_attempt(stage, tonumber(r[3]), {outcome = 'input lost', error = ARGV[5]})
end_build(stage, token, nil)
local blockers = 0
for _, need in ipairs(needs) do
  if get(need, 'state') ~= 'done' then blockers = blockers + 1 end
end
call('HSET', key('s', stage), 'needs', cjson.encode(needs), 'blockers', blockers)
move(stage, 'waiting')
point(stage)
if blockers == 0 then make_ready(stage) end
return blockers == 0 and 'ready' or 'wait'
