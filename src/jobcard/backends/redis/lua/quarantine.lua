-- Takes unreadable jobs from their holders, and out of the line; their bytes stay.
-- Safe at once with others: no other command runs in between, so one settled or renewed meanwhile stays as it is.
--
-- ARGV[1]  [now, ids, whether only those whose lease has run out]
-- returns  how many were taken; none in a sealed store, where whoever only looks comes here, too

if redis.call('HEXISTS', K_meta, 'seal') == 1 then return 0 end
local refused = begin()
if refused then return refused end
local only_lapsed, taken = input[3], 0

-- What this script changes must be as jobcard writes it; card and texts need not be.
local function is_held(live)
  return live and is_at_work(live[STATE]) and type(live[ATTEMPT]) == 'number' and type(live[CREATED_AT]) == 'number'
end

local function take(id, live)
  local unspent = live[STATE] == 'claimed' and 1 or 0
  leave(id, live)
  live[STATE], live[HOLD], live[REASON] = 'waiting', 'broken', 'broken'
  live[CLAIMED_BY], live[LEASE_UNTIL], live[CLAIMED_AT], live[STARTED_AT] = false, false, false, false
  live[ATTEMPT], live[CLAIM_TOKEN], live[VERSION] = live[ATTEMPT] - unspent, live[CLAIM_TOKEN] + 1, live[VERSION] + 1
  enter(id, live)
end

local leased
-- Whether a lease goes on, by the index: of an unreadable job nothing else says so.
local function is_leased(id)
  if not leased then
    leased = {}
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', K_leases, '(' .. number(now), '+inf')) do
      leased[string.sub(member, -32)] = true
    end
  end
  return leased[id]
end

-- Where not even that can be read: out of every index that may name it.
local function forget(id)
  redis.call('SADD', K_broken, id)
  for _, member in ipairs(redis.call('ZRANGE', K_leases, 0, -1)) do
    if string.sub(member, -32) == id then
      redis.call('ZREM', K_leases, member)
      redis.call('HDEL', K_cancels, member)
    end
  end
end

-- What was forgotten is still counted with some queue, whose limit goes by these counts: by the rows, then.
local function count_at_work_anew()
  write_counts()
  local counts = redis.call('HGETALL', K_counts)
  for place = 1, #counts, 2 do
    local queue, state = string.match(counts[place], '^(.*)%z(.*)$')
    if is_at_work(state) then count(queue, state, -counts[place + 1]) end
  end
  for _, member in ipairs(redis.call('ZRANGE', K_leases, 0, -1)) do
    local live = read_live(string.sub(member, -32))
    if live and is_at_work(live[STATE]) then count(live[QUEUE], live[STATE], 1) end
  end
end

local forgotten = false
for _, id in ipairs(input[2]) do
  local live = read_live(id)
  if not only_lapsed or not is_leased(id) then
    if is_held(live) then
      take(id, live)
      taken = taken + 1
    elseif not live then
      forget(id)
      forgotten = true
      taken = taken + 1
    end
  end
end
if forgotten then count_at_work_anew() end
write_counts()
return taken
