-- ARGV: queue, facts JSON, nsp_total. A worker of the card tells what the card is. A different card behind
-- the queue (another PCI address) starts unproved. Answers its health.
local queue, facts = ARGV[1], ARGV[2]
local at = key('k', queue)
local old = call('HGET', at, 'facts')
local fresh = not old or cjson.decode(old).pci_address ~= cjson.decode(facts).pci_address
call('HSET', at, 'facts', facts, 'nsp_total', ARGV[3])
if fresh then
  call('HSET', at, 'health', 'unknown', 'reason', '', 'strikes', 0)
  call('HDEL', at, 'probing', 'prober', 'probe_at')
end
call('SADD', key('cards'), queue)
tell(queue)
return call('HGET', at, 'health')
