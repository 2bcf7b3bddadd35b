-- Stores new jobs that are not there yet; what `enqueue` and follow-ups have in common.
--
-- jobs    [[id, digest, queue, rank, order_offset, delay, at, keep, unique_key, name,
--         limit_key, key_limit, rate_count, rate_per, once_key, once_until, replaces, waits_for, batch], …]; the last
--         nine may be missing
-- cards   ARGV from `first` on, one for each job: 32 characters of digest, then what no script reads
-- may_replace   whether a job may take the place of the waiting one that has its key
-- returns [[fate, id of the job that is there], …]

-- Who has one of these keys.
local function holder_of(unique_key, once_key)
  local holder = unique_key and redis.call('HGET', K_unique, unique_key)
  if holder or not once_key then return holder end
  local taken = redis.call('HGET', K_once, once_key)
  taken = taken and cmsgpack.unpack(taken)
  return taken and taken[2] > now and taken[1]
end

-- What is to be done, where and when.
local function fill(live, job)
  local due = job[7] or now + job[6]
  live[QUEUE], live[RANK], live[NAME], live[KEEP] = job[3], job[4], job[10], job[8]
  live[ORDER_AT], live[AVAILABLE_AT], live[ORDER_OFFSET] = due + job[5], due, job[5]
  live[WAITS_FOR], live[BATCH] = job[18] or false, job[19] or false
  live[HOLD] = live[WAITS_FOR] and 'after' or due > now and 'delay' or false
  live[LIMIT_KEY], live[KEY_LIMIT] = job[11] or false, job[12] or false
  live[RATE_COUNT], live[RATE_PER] = job[13] or false, job[14] or false
end

local function replace(id, job, card)
  local live = read_live(id)
  if not live or live[STATE] ~= 'waiting' or live[HOLD] == 'broken' or redis.call('HEXISTS', K_card, id) == 0 then
    return false
  end
  local limit_key, key, member, _, second, keyed_member = live[LIMIT_KEY], places(id, live)
  if key then take_out(key, member) end
  if second then take_out(second, keyed_member) end
  if live[BATCH] then take_out(K_batches, batch_place(id, live)) end
  count(live[QUEUE], 'waiting', -1)
  fill(live, job)
  -- What the first one has tried and said of itself is not held against this one.
  live[ATTEMPT], live[CRASHES], live[INTERRUPTS] = 0, 0, 0
  live[CANCEL_REQUESTED], live[ERROR_KIND], live[PROGRESS], live[CHECKPOINT] = false, false, false, false
  live[VERSION] = live[VERSION] + 1
  redis.call('HSET', K_card, id, card)
  enter(id, live)
  if limit_key then admission().let_in(limit_key, MOST_JOBS) end
  return true
end

local function add(jobs, first, may_replace)
  local fates = {}
  for place, job in ipairs(jobs) do
    local id, digest, queue, key, once_key = job[1], job[2], job[3], job[9], job[15]
    local card = ARGV[first + place - 1]
    local there = redis.call('HGET', K_card, id)
    local holder = not there and (key or once_key) and holder_of(key, once_key)
    local fate
    if there then
      fate = string.sub(there, 1, 32) == digest and 'repeated' or 'id_taken'
    elseif holder then
      fate = may_replace and job[17] and replace(holder, job, card) and 'replaced' or 'key_taken'
    else
      local live = {}
      for field = 1, FIELDS do live[field] = false end
      live[STATE], live[CLAIM_TOKEN], live[CREATED_AT] = 'waiting', 0, now
      live[ATTEMPT], live[CRASHES], live[INTERRUPTS], live[VERSION] = 0, 0, 0, 1
      live[UNIQUE_KEY], live[ONCE_KEY] = key, once_key or false
      fill(live, job)
      redis.call('HSET', K_card, id, card)
      redis.call('ZADD', K_ids, 0, id)
      enter(id, live)
      if once_key then
        redis.call('HSET', K_once, once_key, cmsgpack.pack({ id, job[16] }))
        redis.call('ZADD', K_lapses, job[16], 'once' .. NUL .. once_key)
      end
      fate = 'stored'
    end
    fates[place] = { fate, holder or id }
    if fate == 'stored' or fate == 'replaced' then know(queue) end
  end
  return fates
end
