-- ARGV: stages of schema 1. Their artifacts learn who asked for them, and that they are there. May be repeated.
for _, stage in ipairs(ARGV) do
  local artifact = get(stage, 'artifact')
  local state = artifact and call('HGET', key('a', artifact), 'state')
  if state then call('SADD', key('a', artifact, 'stages'), stage) end
  if state == 'present' then call('ZADD', key('artifacts'), 'NX', now_ms(), artifact) end
end
return 1
