-- ARGV: ms after which an unanswered bell counts as lost. Answers the queues to ring, a name per bell:
-- a bell only where claimable work, an idle worker and no unanswered bell coincide.
local now, lost_ms = now_ms(), tonumber(ARGV[1])
local rung = {}

local function outstanding(queue)
  local n = tonumber(call('HGET', key('bells'), queue) or '0')
  if n > 0 and now - tonumber(call('HGET', key('bells:at'), queue) or '0') > lost_ms then
    call('HSET', key('bells'), queue, 0)
    return 0
  end
  return n
end

local function ring(queue, times)
  for _ = 1, times do rung[#rung + 1] = queue end
  if times > 0 then
    call('HINCRBY', key('bells'), queue, times)
    call('HSET', key('bells:at'), queue, now)
  end
end

-- CPU stages: nearest the end of a chain first, so that models finish one after the other;
-- one bell per idle worker over all the queues it listens to.
local spoken = 0
local kinds = {'compare', 'compile', 'reference', 'export'}
for _, kind in ipairs(kinds) do spoken = spoken + outstanding(kind) end
local idle = #call('SUNION', key('idle', 'compare'), key('idle', 'compile'), key('idle', 'reference'), key('idle', 'export'))
for _, kind in ipairs(kinds) do
  local work = 0
  for _, c in ipairs(call('ZRANGE', key('ready', kind), 0, -1)) do work = work + call('ZCARD', key('ready', kind, c)) end
  local open = tonumber(call('HGET', key('bells'), kind) or '0')
  local times = math.max(0, math.min(work - open, call('SCARD', key('idle', kind)) - open, idle - spoken))
  ring(kind, times)
  spoken = spoken + times
end

-- Cards: those that nobody uses first, the least used of them first; a busy card's second worker
-- prepares the next run. A card is rung for a stage that it may take: a stage that must not go to a card
-- would else ring that card for ever, and no other.
local function list_of(text)
  if not text or text == '' or text == '[]' then return nil end
  local set = {}
  for _, name in ipairs(cjson.decode(text)) do set[name] = true end
  return set
end

local LOOK = 100
local wanted, unseen = {}, 0
for _, c in ipairs(call('ZRANGE', key('ready', 'run'), 0, -1)) do
  local devices = list_of(call('HGET', key('c', c), 'devices'))
  for _, stage in ipairs(call('ZREVRANGE', key('ready', 'run', c), 0, LOOK - 1)) do
    wanted[#wanted + 1] = {stage = stage, devices = devices}
  end
  unseen = unseen + math.max(0, call('ZCARD', key('ready', 'run', c)) - LOOK)
end
local prepared = {}
for _, stage in ipairs(call('ZREVRANGE', key('prepared'), 0, LOOK - 1)) do
  prepared[#prepared + 1] = {stage = stage, moves = true, devices = list_of(call('HGET', key('c', get(stage, 'campaign')), 'devices'))}
end

local function may_take(card, w)
  if not w.cores then
    local s = call('HMGET', key('s', w.stage), 'cores', 'avoid', 'devices', 'queue')
    w.cores, w.avoid, w.own, w.queue = tonumber(s[1] or '0'), list_of(s[2]) or {}, list_of(s[3]), s[4]
    -- A prepared run moves to an idle card only while its own card is held by another.
    w.stays = w.moves and call('SCARD', key('k', w.queue, 'running')) == 0
  end
  return not w.stays and not (w.moves and w.queue == card.queue)
    and w.cores <= card.nsp and not w.avoid[card.queue]
    and (not w.devices or w.devices[card.queue]) and (not w.own or w.own[card.queue])
end

local function take_one(card, from)
  for i, w in ipairs(from) do
    if may_take(card, w) then
      table.remove(from, i)
      return true
    end
  end
  return false
end

local rung_before, free, busy = {}, {}, {}
for _, queue in ipairs(call('SMEMBERS', key('cards'))) do
  local k = call('HMGET', key('k', queue), 'health', 'drained', 'probe_at', 'probing', 'done', 'nsp_total')
  local workers = call('SCARD', key('idle', queue))
  local open = outstanding(queue)
  if workers > 0 and k[2] ~= '1' then
    if k[1] == 'good' then
      local list = call('SCARD', key('k', queue, 'claims')) > 0 and busy or free
      if open > 0 then list = rung_before end
      list[#list + 1] = {queue = queue, done = tonumber(k[5] or '0'), nsp = tonumber(k[6] or '0')}
    elseif open == 0 and call('SCARD', key('k', queue, 'running')) == 0 and tonumber(k[4] or '0') <= clock()
        and (k[1] ~= 'quarantined' or tonumber(k[3] or '0') <= clock()) then
      ring(queue, 1)
    end
  end
end
-- A card that has not answered yet will take one: no other card is rung for that.
for _, card in ipairs(rung_before) do take_one(card, wanted) end
for _, list in ipairs({free, busy}) do
  table.sort(list, function(a, b) if a.done ~= b.done then return a.done < b.done end return a.queue < b.queue end)
  for _, card in ipairs(list) do
    if take_one(card, wanted) then
      ring(card.queue, 1)
    elseif unseen > 0 then
      unseen = unseen - 1
      ring(card.queue, 1)
    elseif list == free and take_one(card, prepared) then
      ring(card.queue, 1)
    end
  end
end
return rung
