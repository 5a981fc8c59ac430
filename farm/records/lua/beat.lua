-- ARGV: worker. It is alive. Answers 0 when the records do not know it: it then registers again.
if call('EXISTS', key('w', ARGV[1])) == 0 then return 0 end
call('ZADD', key('workers'), clock(), ARGV[1])
return 1
