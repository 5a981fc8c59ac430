-- The sum of the artifacts' bytes is what meta's `stored` says, or it is repaired and counted in meta's `drift`.
-- Answers a text when it was not.
local sum = 0
for _, artifact in ipairs(call('ZRANGE', key('artifacts'), 0, -1)) do
  sum = sum + tonumber(call('HGET', key('a', artifact), 'bytes') or '0')
end
local was = tonumber(call('HGET', key('meta'), 'stored') or '0')
if was == sum then return {} end
call('HSET', key('meta'), 'stored', string.format('%.0f', sum))
call('HINCRBY', key('meta'), 'drift', 1)
return {string.format('stored: %.0f bytes, is %.0f', was, sum)}
