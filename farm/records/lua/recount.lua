-- ARGV: campaign, its `changes` when the counting began, JSON of its counters as its records have them. Repairs those
-- that differ, and counts them in meta's `drift`. Answers a text for each, or nil when the campaign changed meanwhile.
local at = key('c', ARGV[1])
if (call('HGET', at, 'changes') or '0') ~= ARGV[2] then return nil end
local counted, drift = cjson.decode(ARGV[3]), {}
local names = call('HKEYS', at)
for field in pairs(counted) do names[#names + 1] = field end
for _, field in ipairs(names) do
  if string.match(field, '^[sj]:') or field == 'expected_done' then
    local was, is = tonumber(call('HGET', at, field) or '0'), counted[field] or 0
    -- Seconds are sums of rounded fractions.
    if math.abs(was - is) > (field == 'expected_done' and 0.5 or 0) then
      call('HSET', at, field, is)
      drift[#drift + 1] = field .. ': ' .. was .. ', is ' .. is
    end
  end
end
if #drift > 0 then
  call('HINCRBY', key('meta'), 'drift', #drift)
  tell(ARGV[1])
end
return drift
