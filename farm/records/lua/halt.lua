-- ARGV: why nothing new is to be started ('': it may be). What runs goes on.
local was = call('HGET', key('meta'), 'halted') or ''
if was == ARGV[1] then return 0 end
if ARGV[1] == '' then call('HDEL', key('meta'), 'halted') else call('HSET', key('meta'), 'halted', ARGV[1]) end
tell('')
return 1
