-- ARGV: queues, a name per bell that could not be delivered: it is not on its way, and no worker will miss it.
for _, queue in ipairs(ARGV) do
  if call('HINCRBY', key('bells'), queue, -1) < 0 then call('HSET', key('bells'), queue, 0) end
end
return 1
