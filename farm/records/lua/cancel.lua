-- ARGV: job. Cancels what the job alone still needs. Answers 1 when anything was cancelled.
local stages = cjson.decode(call('HGET', key('j', ARGV[1]), 'stages'))
local n = cancel(stages.run) + cancel(stages.compare)
for _, kind in ipairs({'compile', 'reference', 'export'}) do
  local stage = stages[kind]
  if stage and not FINAL[get(stage, 'state')] then
    local needed = false
    for _, next in ipairs(cjson.decode(get(stage, 'feeds'))) do
      if not FINAL[get(next, 'state')] then needed = true break end
    end
    if not needed then n = n + cancel(stage) end
  end
end
return n > 0 and 1 or 0
