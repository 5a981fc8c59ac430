-- ARGV: worker, queues JSON, node, pid, card queue ('' for none), stage it is at ('' for none),
--       its node's budgets of memory and store, MiB ('' where it knows none), its keeper.
-- It is busy only with a stage that it has claimed: the attempt it names may be over by now.
local worker, queues, stage = ARGV[1], ARGV[2], ARGV[6]
local w = key('w', worker)
if stage == '' then stage = call('HGET', w, 'stage') or '' end
local s = call('HMGET', key('s', stage), 'state', 'worker')
local busy = s[1] == 'claimed' and s[2] == worker
call('HSET', w, 'queues', queues, 'node', ARGV[3], 'pid', ARGV[4], 'card', ARGV[5], 'state', busy and 'busy' or 'idle',
  'keeper', ARGV[9])
if busy then call('HSET', w, 'stage', stage) else call('HDEL', w, 'stage') end
if ARGV[7] ~= '' then call('HSET', key('n', ARGV[3]), 'memory', ARGV[7]) end
if ARGV[8] ~= '' then call('HSET', key('n', ARGV[3]), 'store', ARGV[8]) end
call('ZADD', key('workers'), clock(), worker)
for _, q in ipairs(cjson.decode(queues)) do
  call(busy and 'SREM' or 'SADD', key('idle', q), worker)
end
return 1
