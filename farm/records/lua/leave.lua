-- ARGV: worker, gone (1: forget it; 0: it finishes what it has and claims nothing more).
local worker = ARGV[1]
local queues = call('HGET', key('w', worker), 'queues')
for _, q in ipairs(cjson.decode(queues or '[]')) do call('SREM', key('idle', q), worker) end
if ARGV[2] == '1' then
  call('ZREM', key('workers'), worker)
  local card = call('HGET', key('w', worker), 'card')
  if card and card ~= '' and call('HGET', key('k', card), 'prober') == worker then
    call('HDEL', key('k', card), 'probing', 'prober')
  end
  call('DEL', key('w', worker))
elseif queues then
  call('HSET', key('w', worker), 'state', 'stopping')
end
return 1
