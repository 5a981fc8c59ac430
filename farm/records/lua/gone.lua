-- ARGV: artifact. A condemned artifact has been removed from the store. Answers 1, or 0 when it was not condemned.
if call('HGET', key('a', ARGV[1]), 'state') ~= 'condemned' then return 0 end
forget(ARGV[1])
call('DEL', key('a', ARGV[1], 'stages'))
return 1
