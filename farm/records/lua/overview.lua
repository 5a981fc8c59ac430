-- ARGV: artifacts. Answers for each: state, bytes, last asked for (ms), needed (1|0), jobs not at their end that need it.
local rows = {}
for i, artifact in ipairs(ARGV) do
  local look, jobs, seen, n = {left = LOOK}, {}, {}, 0
  local function visit(stage)
    look.left = look.left - 1
    if seen[stage] or look.left < 0 then return end
    seen[stage] = true
    local s = call('HMGET', key('s', stage), 'state', 'feeds', 'job')
    if not s[1] then return end
    if not FINAL[s[1]] and s[3] and not jobs[s[3]] then jobs[s[3]], n = true, n + 1 end
    for _, next in ipairs(cjson.decode(s[2])) do visit(next) end
  end
  for _, stage in ipairs(call('SMEMBERS', key('a', artifact, 'stages'))) do visit(stage) end
  local a = call('HMGET', key('a', artifact), 'state', 'bytes')
  local used = call('ZSCORE', key('artifacts'), artifact)
  rows[i] = {a[1] or '', a[2] or '0', used or '0', needed(artifact, {left = LOOK}) and 1 or 0, n}
end
return rows
