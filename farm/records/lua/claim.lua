-- ARGV: worker, queue of the bell, kind, nonce, token, lease ms, ms of waiting that raise the priority by a step.
-- Answers {'stage', id, token, attempt}, {'probe'} (an unproved card), or {} (nothing fits, or there is no room).
local worker, queue, kind, nonce, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lease_ms, step_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local w = key('w', worker)

local before = call('HMGET', w, 'nonce', 'answer', 'state')
if before[1] == nonce then return cjson.decode(before[2]) end
if call('HINCRBY', key('bells'), queue, -1) < 0 then call('HSET', key('bells'), queue, 0) end
call('HDEL', w, 'missed', 'missed_at')
if before[3] ~= 'idle' or call('HGET', key('meta'), 'halted') then return {} end

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

local room = not card and look_for_room(call('HGET', w, 'node')) or nil
local function fits(stage)
  if room then return not lacks(room, stage, kind) end
  local s = call('HMGET', key('s', stage), 'cores', 'avoid', 'devices')
  if tonumber(s[1] or '0') > card.nsp or not names_queue(s[3]) then return false end
  for _, bad in ipairs(cjson.decode(s[2] or '[]')) do if bad == queue then return false end end
  return true
end

local found = nil
for _, campaign in ipairs(in_order(kind, step_ms)) do
  if serves(campaign) then
    -- A bounded look: past it the card would pass over this many stages that do not fit it.
    for _, stage in ipairs(call('ZREVRANGE', key('ready', kind, campaign), 0, 99)) do
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
  end_attempt(found, taken, {outcome = 'taken over', by = queue})
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
if card then call('HSET', key('k', queue), 'turn', turn) end
take(found, worker, card and queue or '', lease_ms)
if card then call('ZADD', key('prepared'), call('HGET', s, 'expected') or 0, found) end
call('RPUSH', key('s', found, 'attempts'), cjson.encode({
  attempt = attempt, token = token, node = node, worker = worker, device = card and queue or nil, started = now_ms()}))
return answer({'stage', found, token, attempt})
