-- ARGV: worker, queue of the bell, kind, nonce, token, lease ms, ms of waiting that raise the priority by a step.
-- Answers {'stage', id, token, attempt}, {'probe'} (an unproved card), or {} (nothing fits).
local worker, queue, kind, nonce, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lease_ms, step_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local w = key('w', worker)

local before = call('HMGET', w, 'nonce', 'answer', 'state')
if before[1] == nonce then return cjson.decode(before[2]) end
if call('HINCRBY', key('bells'), queue, -1) < 0 then call('HSET', key('bells'), queue, 0) end
if before[3] ~= 'idle' then return {} end

local function answer(reply)
  call('HSET', w, 'nonce', nonce, 'answer', cjson.encode(reply))
  return reply
end

local card = nil
if kind == 'run' then
  local k = call('HMGET', key('k', queue), 'health', 'drained', 'nsp_total', 'probe_at', 'probing')
  local busy = call('SCARD', key('k', queue, 'running')) > 0
  if not k[1] or k[2] == '1' then return {} end
  if k[1] ~= 'good' then
    local due = k[1] ~= 'quarantined' or tonumber(k[4] or '0') <= clock()
    if due and not busy and (not k[5] or tonumber(k[5]) <= clock()) then
      call('HSET', key('k', queue), 'probing', clock() + lease_ms * 8, 'prober', worker)
      return answer({'probe'})
    end
    return {}
  end
  card = {nsp = tonumber(k[3] or '0'), busy = busy}
end

local function names_queue(devices)
  if not devices or devices == '' or devices == '[]' then return true end
  for _, d in ipairs(cjson.decode(devices)) do if d == queue then return true end end
  return false
end

local function serves(campaign)
  return not card or names_queue(call('HGET', key('c', campaign), 'devices'))
end

local function fits(stage)
  if not card then return true end
  local s = call('HMGET', key('s', stage), 'cores', 'avoid', 'devices')
  if tonumber(s[1] or '0') > card.nsp or not names_queue(s[3]) then return false end
  for _, bad in ipairs(cjson.decode(s[2] or '[]')) do if bad == queue then return false end end
  return true
end

-- Campaigns by priority (which rises a step per `step_ms` of waiting), then by turn, then by age.
local order, at = {}, clock()
local ring = call('ZRANGE', key('ready', kind), 0, -1, 'WITHSCORES')
for i = 1, #ring, 2 do
  local c = call('HMGET', key('c', ring[i]), 'priority', 'since:' .. kind, 'created')
  local aged = math.floor((at - tonumber(c[2] or at)) / step_ms)
  order[#order + 1] = {ring[i], tonumber(c[1] or '0') + aged, tonumber(ring[i + 1]), tonumber(c[3])}
end
table.sort(order, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  if a[3] ~= b[3] then return a[3] < b[3] end
  return a[4] < b[4]
end)

local found = nil
for _, c in ipairs(order) do
  if serves(c[1]) then
    -- A bounded look: past it the card would pass over this many stages that do not fit it.
    for _, stage in ipairs(call('ZREVRANGE', key('ready', kind, c[1]), 0, 99)) do
      if fits(stage) then found = stage break end
    end
  end
  if found then break end
end

local taken = nil
if not found and card and not card.busy then
  -- A run prepared for a card that is still busy may start here instead.
  for _, stage in ipairs(call('ZREVRANGE', key('prepared'), 0, 99)) do
    local s = call('HMGET', key('s', stage), 'queue', 'campaign', 'attempt')
    if s[1] ~= queue and call('SCARD', key('k', s[1], 'running')) > 0 and serves(s[2]) and fits(stage) then
      found, taken = stage, tonumber(s[3])
      break
    end
  end
end
if not found then return {} end

local s = key('s', found)
local campaign = call('HGET', s, 'campaign')
if taken then
  let_go(found)
  close_attempt(found, taken, {outcome = 'taken over', by = queue})
  move(found, 'ready')
end
unqueue(found, kind, campaign)
local turn = call('INCR', key('turn'))
call('HSET', key('c', campaign), 'turn:' .. kind, turn)
if call('ZSCORE', key('ready', kind), campaign) then call('ZADD', key('ready', kind), turn, campaign) end
move(found, 'claimed')
local attempt = call('HINCRBY', s, 'attempt', 1)
local node = call('HGET', w, 'node')
call('HSET', s, 'token', token, 'worker', worker, 'node', node, 'queue', card and queue or '', 'claimed', now_ms(), 'phase', 'prepare')
call('HDEL', s, 'artifact')
take(found, worker, card and queue or '', lease_ms)
if card then call('ZADD', key('prepared'), call('HGET', s, 'expected') or 0, found) end
call('RPUSH', key('s', found, 'attempts'), cjson.encode({
  attempt = attempt, node = node, worker = worker, device = card and queue or nil, started = now_ms()}))
return answer({'stage', found, token, attempt})
