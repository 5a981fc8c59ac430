-- ARGV: worker, queues JSON, node, pid, card queue ('' for none), stage it is at ('' for none),
--       its node's budgets of memory and store, MiB ('' where it knows none), its keeper.
local worker, queues, stage = ARGV[1], ARGV[2], ARGV[6]
local s = call('HMGET', key('s', stage), 'state', 'worker')
-- A stage that is another's by now does not end with this worker: it would be busy for ever.
if s[1] ~= 'claimed' or s[2] ~= worker then stage = '' end
local state = stage == '' and 'idle' or 'busy'
call('HSET', key('w', worker), 'queues', queues, 'node', ARGV[3], 'pid', ARGV[4], 'card', ARGV[5], 'state', state,
  'keeper', ARGV[9])
if stage ~= '' then call('HSET', key('w', worker), 'stage', stage) end
if ARGV[7] ~= '' then call('HSET', key('n', ARGV[3]), 'memory', ARGV[7]) end
if ARGV[8] ~= '' then call('HSET', key('n', ARGV[3]), 'store', ARGV[8]) end
call('ZADD', key('workers'), clock(), worker)
for _, q in ipairs(cjson.decode(queues)) do
  call(state == 'idle' and 'SADD' or 'SREM', key('idle', q), worker)
end
return 1
