-- ARGV: ms on the farm clock after which an unanswered bell counts as lost, ms of waiting that raise the priority by a step.
-- Answers the queues to ring, a name per bell: a bell only where claimable work, an idle worker and no unanswered
-- bell coincide. Notes what waits for room.
if call('HGET', key('meta'), 'halted') then return {} end
local now, lost_ms = clock(), tonumber(ARGV[1])
local rung = {}

-- A lost bell counts against each worker that is idle: once, also when bells of several of its queues are lost.
local function miss(queue, at)
  for _, worker in ipairs(call('SMEMBERS', key('idle', queue))) do
    local w = key('w', worker)
    if at >= tonumber(call('HGET', w, 'missed_at') or '0') then
      call('HINCRBY', w, 'missed', 1)
      call('HSET', w, 'missed_at', now)
    end
  end
end

local function outstanding(queue)
  local n = tonumber(call('HGET', key('bells'), queue) or '0')
  local at = tonumber(call('HGET', key('bells:at'), queue) or '0')
  -- abs: older records noted the time of day.
  if n > 0 and math.abs(now - at) > lost_ms then
    call('HSET', key('bells'), queue, 0)
    miss(queue, at)
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

-- The nodes whose idle workers serve a CPU queue, the largest first.
local rooms = {}
local function rooms_of(kind)
  local found, seen = {}, {}
  for _, worker in ipairs(call('SMEMBERS', key('idle', kind))) do
    local node = call('HGET', key('w', worker), 'node')
    rooms[node] = rooms[node] or look_for_room(node)
    if not seen[node] then found[#found + 1] = rooms[node] end
    seen[node] = true
  end
  table.sort(found, function(a, b) return (a.memory or math.huge) > (b.memory or math.huge) end)
  return found
end

-- A stage passed over for memory waits from now, unless another that still waits was before it.
local tick = clock()
local function pass_over(room, stage)
  if room.starved ~= stage then
    if room.starved and tick - room.seen < STARVED_MS and get(room.starved, 'state') == 'ready' then return end
    call('HSET', key('n', room.node), 'starved', stage, 'since', tick, 'seen', tick)
    room.starved, room.since, room.seen = stage, tick, tick
  elseif tick - room.seen > STARVED_MS / 6 then
    call('HSET', key('n', room.node), 'seen', tick)
    room.seen = tick
  end
end

-- The stage that waits longest for a node's memory still does, though nothing of its kind may be rung for now.
local function see_again(room, kind)
  local stage = room.starved
  if not stage then return end
  local s = call('HMGET', key('s', stage), 'state', 'kind')
  if s[1] == 'ready' and s[2] == kind and lacks_memory(room, size_of(stage)) then pass_over(room, stage) end
end

-- How many ready stages of the kind, up to `most`, there is room for; and what those before them lack.
local function fitting(kind, found, most)
  local n, wait = 0, nil
  for _, campaign in ipairs(in_order(kind, tonumber(ARGV[2]))) do
    for _, stage in ipairs(call('ZREVRANGE', key('ready', kind, campaign), 0, 99)) do
      if n == most then return n, wait end
      local what, placed = nil, false
      for _, room in ipairs(found) do
        local lack = lacks(room, stage, kind)
        if not lack then
          admit(room, size_of(stage))
          placed = true
          break
        end
        what = what or lack
      end
      if placed then
        n = n + 1
      else
        if what == 'memory' then pass_over(found[1], stage) end
        wait = wait or what_is_left(found[1], stage, what)
        wait.stages = wait.stages + 1
      end
    end
  end
  return n, wait
end

-- What ready stages wait for, for `farm status`.
local function note(kind, wait)
  local text = wait and cjson.encode(wait) or false
  if call('HGET', key('waits'), kind) == text then return end
  if text then call('HSET', key('waits'), kind, text) else call('HDEL', key('waits'), kind) end
end

-- CPU stages: nearest the end of a chain first, so that models finish one after the other;
-- one bell per idle worker over all the queues it listens to.
local spoken = 0
local kinds = {'compare', 'compile', 'reference', 'export'}
for _, kind in ipairs(kinds) do spoken = spoken + outstanding(kind) end
local idle = #call('SUNION', key('idle', 'compare'), key('idle', 'compile'), key('idle', 'reference'), key('idle', 'export'))
for _, kind in ipairs(kinds) do
  local open, found = tonumber(call('HGET', key('bells'), kind) or '0'), rooms_of(kind)
  for _, room in ipairs(found) do see_again(room, kind) end
  local most = math.min(call('SCARD', key('idle', kind)) - open, idle - spoken)
  if most > 0 then
    local n, wait = fitting(kind, found, most + open)
    ring(kind, math.max(0, n - open))
    spoken = spoken + math.max(0, n - open)
    note(kind, wait)
  elseif #found == 0 then
    note(kind, nil)
  end
end

-- Cards: those that nobody uses first, of them the one that was idle longest; a busy card's second worker
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
  local k = call('HMGET', key('k', queue), 'health', 'drained', 'probe_at', 'probing', 'turn', 'nsp_total')
  local workers = call('SCARD', key('idle', queue))
  local open = outstanding(queue)
  if workers > 0 and k[2] ~= '1' then
    if k[1] == 'good' then
      local list = call('SCARD', key('k', queue, 'claims')) > 0 and busy or free
      if open > 0 then list = rung_before end
      list[#list + 1] = {queue = queue, turn = tonumber(k[5] or '0'), nsp = tonumber(k[6] or '0')}
    elseif open == 0 and call('SCARD', key('k', queue, 'running')) == 0 and tonumber(k[4] or '0') <= clock()
        and (k[1] ~= 'quarantined' or tonumber(k[3] or '0') <= clock()) then
      ring(queue, 1)
    end
  end
end
-- A card that has not answered yet will take one: no other card is rung for that.
for _, card in ipairs(rung_before) do take_one(card, wanted) end
for _, list in ipairs({free, busy}) do
  table.sort(list, function(a, b) if a.turn ~= b.turn then return a.turn < b.turn end return a.queue < b.queue end)
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
