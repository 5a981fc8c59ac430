-- ARGV: queue, facts JSON. Newer readings of a card that is known; what they do not tell stays.
local at = key('k', ARGV[1])
local known = call('HGET', at, 'facts')
if not known then return 0 end
local facts = cjson.decode(known)
for name, value in pairs(cjson.decode(ARGV[2])) do facts[name] = value end
call('HSET', at, 'facts', cjson.encode(facts))
return 1
