-- ARGV: worker. It is alive. Answers how many bells in a row it left unanswered, or -1 when the records do not
-- know it: it then registers again.
local w = key('w', ARGV[1])
if call('EXISTS', w) == 0 then return -1 end
call('ZADD', key('workers'), clock(), ARGV[1])
return tonumber(call('HGET', w, 'missed') or '0')
