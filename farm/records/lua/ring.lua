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
-- prepares the next run.
local work, anywhere = {}, 0
for _, c in ipairs(call('ZRANGE', key('ready', 'run'), 0, -1)) do
  local n, devices = call('ZCARD', key('ready', 'run', c)), call('HGET', key('c', c), 'devices')
  if devices and devices ~= '' then
    for _, d in ipairs(cjson.decode(devices)) do work[d] = (work[d] or 0) + n end
  else
    anywhere = anywhere + n
  end
end
local prepared = call('ZCARD', key('prepared'))
local free, busy = {}, {}
for _, queue in ipairs(call('SMEMBERS', key('cards'))) do
  local k = call('HMGET', key('k', queue), 'health', 'drained', 'probe_at', 'probing', 'done')
  local workers = call('SCARD', key('idle', queue))
  local open = outstanding(queue)
  if workers > open and k[2] ~= '1' then
    if k[1] == 'good' then
      local list = call('SCARD', key('k', queue, 'claims')) > 0 and busy or free
      list[#list + 1] = {queue, open, tonumber(k[5] or '0')}
    elseif open == 0 and call('SCARD', key('k', queue, 'running')) == 0 and tonumber(k[4] or '0') <= clock()
        and (k[1] ~= 'quarantined' or tonumber(k[3] or '0') <= clock()) then
      ring(queue, 1)
    end
  end
end
for _, list in ipairs({free, busy}) do
  table.sort(list, function(a, b) if a[3] ~= b[3] then return a[3] < b[3] end return a[1] < b[1] end)
  for _, card in ipairs(list) do
    local queue, open = card[1], card[2]
    if open == 0 then
      if (work[queue] or 0) > 0 then
        work[queue] = work[queue] - 1
        ring(queue, 1)
      elseif anywhere > 0 then
        anywhere = anywhere - 1
        ring(queue, 1)
      elseif list == free and prepared > 0 then
        prepared = prepared - 1
        ring(queue, 1)
      end
    end
  end
end
return rung
