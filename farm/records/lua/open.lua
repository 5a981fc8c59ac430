-- ARGV: campaign; stage, artifact and its bytes of each stage that is done before it begins. The one flip that makes a
-- staged campaign visible and its ready stages claimable, and pins what was found for it.
local campaign = ARGV[1]
local at = key('c', campaign)
if call('HGET', at, 'state') ~= 'staging' then return 0 end
call('HSET', at, 'state', 'open')
for i = 2, #ARGV, 3 do find(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])) end
for _, kind in ipairs({'export', 'reference', 'compile', 'run', 'compare'}) do
  if call('EXISTS', key('ready', kind, campaign)) == 1 then
    call('ZADD', key('ready', kind), 0, campaign)
    call('HSET', at, 'since:' .. kind, clock())
  end
end
call('ZADD', key('campaigns'), call('HGET', at, 'created'), campaign)
tell(campaign)
return 1
