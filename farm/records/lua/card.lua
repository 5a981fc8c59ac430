-- ARGV: queue, facts JSON, nsp_total. A worker of the card tells what the card is. A different card behind
-- the queue (another PCI address) starts unproved. Answers its health, or 'taken' when workers of another boot serve it.
local queue, facts = ARGV[1], ARGV[2]
local at = key('k', queue)
local old = call('HGET', at, 'facts')
local was, is = old and cjson.decode(old) or {}, cjson.decode(facts)
if was.boot and is.boot and was.boot ~= is.boot then
  for _, worker in ipairs(call('ZRANGE', key('workers'), 0, -1)) do
    if call('HGET', key('w', worker), 'card') == queue then return 'taken' end
  end
end
local fresh = not old or was.pci_address ~= is.pci_address
call('HSET', at, 'facts', facts, 'nsp_total', ARGV[3])
if fresh then
  call('HSET', at, 'health', 'unknown', 'reason', '', 'strikes', 0)
  call('HDEL', at, 'probing', 'prober', 'probe_at')
end
call('SADD', key('cards'), queue)
tell(queue)
return call('HGET', at, 'health')
