-- The key schema, and what every transition shares. The only place that spells a key, with keys.py.
--
-- farm:meta             hash    schema; farm_id, epoch: which records these are (memory.py); clock: the farm clock, ms; wall: Redis's time at the last tick, ms;
--                               stored: bytes of the artifacts in farm:artifacts; drift: counters that a recount repaired;
--                               halted: why nothing new is started
-- farm:campaigns        zset    campaign -> created, ms
-- farm:c:<campaign>     hash    label, priority, created, state (staging|open), devices (JSON list of queues, '' for any card), command;
--                               counters s:<kind>:<state>, j:<state>, expected, expected_done; changes: of those counters; since:<kind>;
--                               pace: ms from one job's end to the next, last_end (farm clock)
-- farm:c:<campaign>:jobs list   job ids in the order of submission
-- farm:j:<job>          hash    campaign, spec (JSON), stages (JSON kind -> stage id), state, finished; archive (JSON list); asked: nonce of its last cancel or retry
-- farm:s:<stage>        hash    campaign, kind, job, ask, needs, feeds (JSON), blockers, state, score, expected; of a run: cores, devices (JSON);
--                               attempt, token, worker, node, queue, phase, claimed, ready; failures (JSON kind -> n), avoid (JSON list);
--                               artifact, outcome, error_kind, error, log; token: none once the attempt is over; settled: the token last settled;
--                               room: "<memory> <store>", MiB, of a CPU stage that needs some; repairs: how many were made of it,
--                               forgiven: those of them before its job was last retried;
--                               again: of a repair, the revision that is to be made again
-- farm:s:<stage>:attempts list  one JSON entry an attempt, oldest first
-- farm:ready:<kind>     zset    campaign -> turn last served (a campaign is here while it is open and has ready stages)
-- farm:ready:<kind>:<campaign> zset stage -> score, highest first
-- farm:turn             counter of claims, for round robin
-- farm:later            zset    stage -> farm clock when a backoff ends
-- farm:leases           zset    stage -> farm clock when its lease lapses
-- farm:prepared         zset    run stages claimed whose card is not yet held -> expected seconds
-- farm:a:<artifact>     hash    state (building|present|condemned), stage, token, bytes
-- farm:a:<artifact>:stages set  stages that asked for it: while one of them, or what depends on it, is not final, it is needed
-- farm:a:<artifact>:waiters set stages parked until the build ends
-- farm:artifacts        zset    artifacts that are there, condemned ones too -> last asked for, ms
-- farm:n:<node>         hash    budgets of a node, MiB: memory, store; log:<kind>: where its attempts' logs are; starved: a stage passed over for memory, since, seen (farm clock)
-- farm:admitted         hash    claimed CPU stage -> "<memory> <store> <node>", MiB
-- farm:waits            hash    kind -> JSON: what its ready stages wait for where a worker is idle (for, stages, needed, free, limit; MiB)
-- farm:losses           zset    stage that lost its worker -> farm clock, of the last minute; a hint, written beside the scripts
-- farm:workers          zset    worker -> farm clock when last heard of
-- farm:w:<worker>       hash    queues (JSON), node, pid, keeper, card, state (idle|busy|stopping), stage; nonce, answer: its last claim;
--                               missed: bells in a row that were lost while it was idle, missed_at: when the last was, ms
-- farm:idle:<queue>     set     workers that would answer a bell of the queue
-- farm:cards            set     queue names of cards
-- farm:k:<queue>        hash    a card: facts (JSON), nsp_total, health, reason, drained, since:health, since:drained (ms), strikes, probing (until, farm clock), prober, probe_at (farm clock),
--                               stage, job, since (farm clock), expected: what runs on it; done; turn: of its last claim
-- farm:k:<queue>:claims set     stages claimed for the card, running or being prepared
-- farm:k:<queue>:running set    those of them that hold it: one, or several on a shared card
-- farm:bells            hash    queue -> bells rung and not yet answered; farm:bells:at queue -> when last rung (farm clock)
-- farm:coordinators     zset    coordinator -> last tick, ms
-- farm:changed          channel told of every transition

local FINAL = {done = true, failed = true, blocked = true, cancelled = true}
local MAY = {
  waiting = {ready = true, blocked = true, cancelled = true},
  ready = {claimed = true, done = true, failed = true, blocked = true, cancelled = true},
  claimed = {ready = true, waiting = true, done = true, failed = true, cancelled = true},
}

local call = redis.call

local function key(...) return 'farm:' .. table.concat({...}, ':') end

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function clock() return tonumber(call('HGET', key('meta'), 'clock') or '0') end

local function get(stage, field) return call('HGET', key('s', stage), field) end

local function tell(campaign) call('PUBLISH', key('changed'), campaign) end

-- A job has ended: the mean time between two ends follows the last ten or so.
local function keep_pace(campaign)
  local c, at = call('HMGET', campaign, 'last_end', 'pace'), clock()
  if c[1] then
    local gap = at - tonumber(c[1])
    call('HSET', campaign, 'pace', c[2] and 0.9 * tonumber(c[2]) + 0.1 * gap or gap)
  end
  call('HSET', campaign, 'last_end', at)
end

-- The job's state follows its run and compare stages.
local function set_job(job, to)
  local at = key('j', job)
  local was = call('HGET', at, 'state')
  if not was or was == to then return end
  local campaign = call('HGET', at, 'campaign')
  call('HINCRBY', key('c', campaign), 'j:' .. was, -1)
  call('HINCRBY', key('c', campaign), 'j:' .. to, 1)
  call('HSET', at, 'state', to)
  if to == 'done' or to == 'failed' or to == 'cancelled' then
    call('HSET', at, 'finished', now_ms())
    keep_pace(key('c', campaign))
  end
end

local function follow_job(job)
  local stages = cjson.decode(call('HGET', key('j', job), 'stages'))
  local run, compare = get(stages.run, 'state'), get(stages.compare, 'state')
  if run == 'failed' or run == 'blocked' then set_job(job, 'failed')
  elseif run == 'cancelled' or (run == 'done' and compare == 'cancelled') then set_job(job, 'cancelled')
  elseif run == 'done' then set_job(job, FINAL[compare] and 'done' or 'running')
  elseif run == 'claimed' then set_job(job, 'running')
  else set_job(job, 'waiting') end
end

-- Every state change goes through here: legality, counters, the job, the news.
local function move(stage, to)
  local at = key('s', stage)
  local r = call('HMGET', at, 'state', 'campaign', 'kind', 'job', 'expected')
  local from, campaign, kind = r[1], r[2], r[3]
  if not from or not (MAY[from] and MAY[from][to]) then
    error('ILLEGAL ' .. stage .. ' ' .. tostring(from) .. ' ' .. to)
  end
  call('HSET', at, 'state', to)
  call('HINCRBY', key('c', campaign), 's:' .. kind .. ':' .. from, -1)
  call('HINCRBY', key('c', campaign), 's:' .. kind .. ':' .. to, 1)
  call('HINCRBY', key('c', campaign), 'changes', 1)
  if kind == 'run' and FINAL[to] then
    call('HINCRBYFLOAT', key('c', campaign), 'expected_done', r[5] or '0')
  end
  if r[4] and r[4] ~= '' then follow_job(r[4]) end
  tell(campaign)
end

local function unqueue(stage, kind, campaign)
  call('ZREM', key('later'), stage)
  local set = key('ready', kind, campaign)
  call('ZREM', set, stage)
  if call('EXISTS', set) == 0 then
    call('ZREM', key('ready', kind), campaign)
    call('HDEL', key('c', campaign), 'since:' .. kind)
  end
end

local function enqueue(stage)
  local r = call('HMGET', key('s', stage), 'kind', 'campaign', 'score')
  call('HSET', key('s', stage), 'ready', now_ms())
  call('ZADD', key('ready', r[1], r[2]), r[3], stage)
  local c = call('HMGET', key('c', r[2]), 'state', 'turn:' .. r[1])
  if c[1] == 'open' and call('ZADD', key('ready', r[1]), 'NX', c[2] or 0, r[2]) == 1 then
    call('HSET', key('c', r[2]), 'since:' .. r[1], clock())
  end
end

local function make_ready(stage, delay_ms)
  if get(stage, 'state') ~= 'ready' then move(stage, 'ready') end
  if delay_ms and delay_ms > 0 then
    call('ZADD', key('later'), clock() + delay_ms, stage)
  else
    enqueue(stage)
  end
end

-- A worker would answer no bell any more.
local function not_idle(worker)
  for _, q in ipairs(cjson.decode(call('HGET', key('w', worker), 'queues') or '[]')) do
    call('SREM', key('idle', q), worker)
  end
end

-- A worker is gone, or was silent for too long: its card is proved by the next.
local function forget_worker(worker)
  not_idle(worker)
  local card = call('HGET', key('w', worker), 'card')
  if card and card ~= '' and call('HGET', key('k', card), 'prober') == worker then
    call('HDEL', key('k', card), 'probing', 'prober')
  end
  call('ZREM', key('workers'), worker)
  call('DEL', key('w', worker))
end

-- A worker takes a stage up: the lease runs, the worker is busy, the card is spoken for.
local function take(stage, worker, queue, lease_ms)
  call('ZADD', key('leases'), clock() + lease_ms, stage)
  local w = call('HMGET', key('w', worker), 'queues', 'state')
  -- A worker that was silent for too long is not known: it registers again with its next beat.
  if w[1] then
    call('HSET', key('w', worker), 'state', w[2] == 'stopping' and 'stopping' or 'busy', 'stage', stage)
    for _, q in ipairs(cjson.decode(w[1])) do call('SREM', key('idle', q), worker) end
  end
  if queue ~= '' then call('SADD', key('k', queue, 'claims'), stage) end
  local s = call('HMGET', key('s', stage), 'room', 'node')
  if s[1] then call('HSET', key('admitted'), stage, s[1] .. ' ' .. s[2]) end
end

-- A run holds its card.
local function hold(stage, queue)
  local s = call('HMGET', key('s', stage), 'job', 'expected')
  call('SADD', key('k', queue, 'running'), stage)
  call('HSET', key('k', queue), 'stage', stage, 'job', s[1], 'since', clock(), 'expected', s[2] or '0')
end

-- The attempt at hand ends: the lease, the worker and the card are free of it.
local function let_go(stage)
  local r = call('HMGET', key('s', stage), 'worker', 'queue')
  call('ZREM', key('leases'), stage)
  call('ZREM', key('prepared'), stage)
  call('HDEL', key('admitted'), stage)
  if r[1] and call('HGET', key('w', r[1]), 'stage') == stage then
    call('HDEL', key('w', r[1]), 'stage')
    if call('HGET', key('w', r[1]), 'state') == 'busy' then
      call('HSET', key('w', r[1]), 'state', 'idle')
      for _, q in ipairs(cjson.decode(call('HGET', key('w', r[1]), 'queues'))) do
        call('SADD', key('idle', q), r[1])
      end
    end
  end
  if r[2] and r[2] ~= '' then
    call('SREM', key('k', r[2], 'claims'), stage)
    call('SREM', key('k', r[2], 'running'), stage)
    if call('HGET', key('k', r[2]), 'stage') == stage then
      call('HDEL', key('k', r[2]), 'stage', 'job', 'since', 'expected')
    end
  end
end

-- The history entry of an attempt is completed, never rewritten twice.
local function close_attempt(stage, attempt, fields)
  local list = key('s', stage, 'attempts')
  local raw = call('LINDEX', list, attempt - 1)
  if not raw then return end
  local entry = cjson.decode(raw)
  if entry.outcome then return end
  for k, v in pairs(fields) do entry[k] = v end
  entry.ended = now_ms()
  call('LSET', list, attempt - 1, cjson.encode(entry))
end

-- What came of an attempt after others had ended it: a note, it changes nothing.
local ENDED_BY_OTHERS = {cancelled = true, ['lease lapsed'] = true, ['worker lost'] = true}
local function note_late(stage, token, note)
  local list = key('s', stage, 'attempts')
  for n, raw in ipairs(call('LRANGE', list, 0, -1)) do
    local entry = cjson.decode(raw)
    if entry.token == token and ENDED_BY_OTHERS[entry.outcome] and entry.outcome ~= note and not entry.late then
      entry.late = note
      call('LSET', list, n - 1, cjson.encode(entry))
    end
  end
end

-- The attempt at hand is over for good: whoever still speaks for it is refused. Only a lease that lapsed leaves the
-- token, so that its owner may come back before anybody else claims.
local function end_attempt(stage, attempt, fields)
  let_go(stage)
  close_attempt(stage, attempt, fields)
  call('HDEL', key('s', stage), 'token')
end

-- Who is refused gives its attempt up: also one whose lease had only lapsed, which might else come back with nobody
-- at work on it.
local function refuse(stage, token, answer)
  if get(stage, 'token') == token then call('HDEL', key('s', stage), 'token') end
  return answer
end

local function block(stage, because)
  if FINAL[get(stage, 'state')] then return end
  local r = call('HMGET', key('s', stage), 'kind', 'campaign', 'feeds')
  unqueue(stage, r[1], r[2])
  call('HSET', key('s', stage), 'error', 'blocked by ' .. because)
  move(stage, 'blocked')
  for _, next in ipairs(cjson.decode(r[3])) do block(next, because) end
end

-- A stage is done: what waited for it alone becomes ready.
local function release(stage)
  for _, next in ipairs(cjson.decode(get(stage, 'feeds'))) do
    if call('HINCRBY', key('s', next), 'blockers', -1) == 0 and get(next, 'state') == 'waiting' then
      make_ready(next)
    end
  end
end
