-- ARGV: stage, token, verdict (done|failed|ready), outcome JSON, error kind, error, log, failures JSON,
--       delay ms, card to avoid ('' for none), note of how the attempt ended, only if lapsed (1|0),
--       bytes of its artifact ('' unknown), to be alone on its node next time (1|0).
-- Answers 'ok', 'again' (settled with this token before), or 'late' (a later attempt, or cancel, came first).
local stage, token, verdict, outcome = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local at = key('s', stage)
local r = call('HMGET', at, 'state', 'token', 'settled', 'attempt', 'kind', 'campaign', 'queue', 'avoid')
local lapse = ARGV[12] == '1'
if not lapse then note_late(stage, token, ARGV[11]) end
if r[3] == token then return 'again' end
local entry = {outcome = ARGV[11], error_kind = ARGV[5] ~= '' and ARGV[5] or nil, error = ARGV[6] ~= '' and ARGV[6] or nil, log = ARGV[7] ~= '' and ARGV[7] or nil}
if r[2] ~= token or not (r[1] == 'claimed' or r[1] == 'ready') then return 'late' end
if lapse then
  local due = call('ZSCORE', key('leases'), stage)
  if r[1] ~= 'claimed' or not due or tonumber(due) > clock() then return 'late' end
elseif r[1] == 'ready' then
  unqueue(stage, r[5], r[6])
end
if lapse and verdict == 'ready' then
  let_go(stage)
  close_attempt(stage, tonumber(r[4]), entry)
else
  end_attempt(stage, tonumber(r[4]), entry)
  if not lapse then call('HSET', at, 'settled', token) end
end
end_build(stage, token, verdict == 'done' and ARGV[13] or nil)
call('HSET', at, 'failures', ARGV[8], 'error_kind', ARGV[5], 'error', ARGV[6], 'log', ARGV[7])
if ARGV[14] == '1' then claim_whole_node(stage) end
if ARGV[10] ~= '' then
  local avoid = cjson.decode(r[8] or '[]')
  avoid[#avoid + 1] = ARGV[10]
  call('HSET', at, 'avoid', cjson.encode(avoid))
end
if verdict == 'done' then
  call('HSET', at, 'outcome', outcome)
  if r[7] and r[7] ~= '' then call('HINCRBY', key('k', r[7]), 'done', 1) end
  move(stage, 'done')
  release(stage)
elseif verdict == 'failed' then
  if outcome ~= '' then call('HSET', at, 'outcome', outcome) end
  move(stage, 'failed')
  for _, next in ipairs(cjson.decode(call('HGET', at, 'feeds'))) do block(next, stage) end
else
  make_ready(stage, tonumber(ARGV[9]))
end
return 'ok'
