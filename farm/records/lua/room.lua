-- Which CPU stages may be claimed beside one another: by the memory of their node and the bytes of the store.

-- A stage passed over for memory this long, ms, gets the next room.
local STARVED_MS = 60000

-- The campaigns with ready stages of a kind: by priority (which rises a step per `step_ms` of waiting), then by
-- turn, then by age.
local function in_order(kind, step_ms)
  local order, at = {}, clock()
  local found = call('ZRANGE', key('ready', kind), 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local c = call('HMGET', key('c', found[i]), 'priority', 'since:' .. kind, 'created')
    local aged = math.floor((at - tonumber(c[2] or at)) / step_ms)
    order[#order + 1] = {found[i], tonumber(c[1] or '0') + aged, tonumber(found[i + 1]), tonumber(c[3])}
  end
  table.sort(order, function(a, b)
    if a[2] ~= b[2] then return a[2] > b[2] end
    if a[3] ~= b[3] then return a[3] < b[3] end
    if a[4] ~= b[4] then return a[4] < b[4] end
    return a[1] < b[1]
  end)
  local names = {}
  for i, entry in ipairs(order) do names[i] = entry[1] end
  return names
end

-- Memory and store, MiB, that a stage needs; nil for one that needs no admission.
local function size_of(stage)
  local memory, store = string.match(get(stage, 'room') or '', '(%d+) (%d+)')
  if memory then return {memory = tonumber(memory), store = tonumber(store)} end
end

-- What is claimed in the whole farm, and the budgets of a node; `admit` adds a stage, to look further ahead.
local function look_for_room(node)
  local n = call('HMGET', key('n', node), 'memory', 'store', 'starved', 'since', 'seen')
  local room = {
    node = node, memory = tonumber(n[1] or ''), limit = tonumber(n[2] or ''),
    starved = n[3] or nil, since = tonumber(n[4] or '0'), seen = tonumber(n[5] or '0'),
    taken = 0, beside = 0, reserved = 0,
  }
  local claimed = call('HGETALL', key('admitted'))
  for i = 2, #claimed, 2 do
    local memory, store, where = string.match(claimed[i], '(%d+) (%d+) (.*)')
    room.reserved = room.reserved + tonumber(store)
    if where == node then room.taken, room.beside = room.taken + tonumber(memory), room.beside + 1 end
  end
  return room
end

local function admit(room, size)
  if not size then return end
  room.taken, room.beside, room.reserved = room.taken + size.memory, room.beside + 1, room.reserved + size.store
end

-- MiB of the artifacts that nobody needs, and of those that are being removed.
local function evictable()
  local bytes, look = 0, {left = LOOK}
  for _, artifact in ipairs(call('ZRANGE', key('artifacts'), 0, -1)) do
    if look.left <= 0 then break end
    local a = call('HMGET', key('a', artifact), 'state', 'bytes')
    if a[1] == 'condemned' or not needed(artifact, look) then bytes = bytes + tonumber(a[2] or '0') end
  end
  return bytes / 1048576
end

-- Whether nothing goes on that could make room: no stage is claimed, waits for its backoff, or is a run or compare
-- to come. Then one more stage is admitted, however full the store is, those nearest the end of their chain first.
local function stands_still(room, kind)
  local function none(...) return call('EXISTS', key(...)) == 0 end
  return room.beside == 0 and none('leases') and none('later') and none('ready', 'run') and none('ready', 'compare')
    and (kind ~= 'export' or (none('ready', 'compile') and none('ready', 'reference')))
end

local function lacks_store(room, size, kind)
  if not room.limit then return false end
  room.stored = room.stored or tonumber(call('HGET', key('meta'), 'stored') or '0') / 1048576
  local over = room.stored + room.reserved + size.store - room.limit
  if over <= 0 then return false end
  room.evictable = room.evictable or evictable()
  return over > room.evictable and not stands_still(room, kind)
end

local function lacks_memory(room, size)
  return room.memory and room.beside > 0 and room.taken + size.memory > room.memory
end

-- Whether another stage, passed over for too long, has the next memory of the node: never while that stage could
-- not have it anyhow for want of disk, which might be freed by what it would hold up.
local function is_reserved(room, stage)
  local first = room.starved
  if not first or first == stage or clock() - room.since < STARVED_MS or clock() - room.seen > STARVED_MS then
    return false
  end
  local s = call('HMGET', key('s', first), 'state', 'kind')
  return s[1] == 'ready' and not lacks_store(room, size_of(first), s[2])
end

-- What a ready stage lacks on the node: 'memory', 'turn' (another has the next memory), 'store' or nothing.
local function lacks(room, stage, kind)
  local size = size_of(stage)
  if not size then return nil end
  if lacks_memory(room, size) then return 'memory' end
  if is_reserved(room, stage) then return 'turn' end
  if lacks_store(room, size, kind) then return 'store' end
  return nil
end

-- What a stage wants and what there is of it, MiB.
local function what_is_left(room, stage, what)
  local size = size_of(stage)
  if what == 'store' then
    local free = room.limit - room.stored - room.reserved + room.evictable
    return {['for'] = 'disk', stages = 0, needed = size.store, free = math.max(0, math.floor(free)), limit = room.limit}
  end
  local free = math.max(0, room.memory - room.taken)
  return {['for'] = 'memory', stages = 0, needed = size.memory, free = free, limit = room.memory}
end

-- The kernel ended the stage for want of memory: it is tried again with the whole budget of its node.
local function claim_whole_node(stage)
  local size = size_of(stage)
  local budget = tonumber(call('HGET', key('n', get(stage, 'node')), 'memory') or '0')
  if size and budget > size.memory then call('HSET', key('s', stage), 'room', budget .. ' ' .. size.store) end
end
