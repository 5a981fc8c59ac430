-- ARGV: bytes to free, limit of the store in bytes ('' for none: free down to it, what claimed stages reserve
-- included), artifacts (none: the least recently asked for first). Condemns what nobody needs.
-- Answers what is to be removed, that which others condemned before included.
local out, freed, look = {}, 0, {left = LOOK}

local function condemn(artifact)
  local a = call('HMGET', key('a', artifact), 'state', 'bytes')
  if a[1] == 'present' and not needed(artifact, look) then
    call('HSET', key('a', artifact), 'state', 'condemned')
    a[1] = 'condemned'
  end
  if a[1] == 'condemned' then
    out[#out + 1] = artifact
    freed = freed + tonumber(a[2] or '0')
  end
end

if #ARGV > 2 then
  for i = 3, #ARGV do condemn(ARGV[i]) end
  return out
end
local wanted = tonumber(ARGV[1])
if ARGV[2] ~= '' then
  local stored = tonumber(call('HGET', key('meta'), 'stored') or '0')
  wanted = math.max(wanted, stored + look_for_room('').reserved * 1048576 - tonumber(ARGV[2]))
end
if wanted <= 0 then return out end
for _, artifact in ipairs(call('ZRANGE', key('artifacts'), 0, -1)) do
  if freed >= wanted or look.left <= 0 then break end
  condemn(artifact)
end
return out
