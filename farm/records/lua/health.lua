-- ARGV: queue, health (good|suspect|quarantined), reason, strikes, ms until the next probe. The outcome of a probe, or a strike.
local at = key('k', ARGV[1])
if call('EXISTS', at) == 0 then return 0 end
if call('HGET', at, 'health') ~= ARGV[2] then call('HSET', at, 'since:health', now_ms()) end
call('HSET', at, 'health', ARGV[2], 'reason', ARGV[3], 'strikes', ARGV[4], 'probe_at', clock() + tonumber(ARGV[5]))
call('HDEL', at, 'probing', 'prober')
tell(ARGV[1])
return 1
