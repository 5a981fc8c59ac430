-- ARGV: worker, gone (1: forget it; 0: it finishes what it has and claims nothing more).
local worker = ARGV[1]
if ARGV[2] == '1' then
  forget_worker(worker)
elseif call('EXISTS', key('w', worker)) == 1 then
  not_idle(worker)
  call('HSET', key('w', worker), 'state', 'stopping')
end
return 1
