-- Stores new jobs that are not there yet; what `enqueue` and follow-ups have in common.
--
-- jobs    [[id, digest, queue, rank, order_offset, delay, at, keep, unique_key, name,
--         limit_key], …]
-- cards   ARGV from `first` on, one for each job: 32 characters of digest, then what no script reads
-- returns [[fate, id of the job that is there], …]

local function add(jobs, first)
  local fates, queues = {}, {}
  for place, job in ipairs(jobs) do
    local id, digest, queue, key = job[1], job[2], job[3], job[9]
    local there = redis.call('HGET', K_card, id)
    local holder = not there and key and redis.call('HGET', K_unique, key)
    if there then
      fates[place] = { string.sub(there, 1, 32) == digest and 'repeated' or 'id_taken', id }
    elseif holder then
      fates[place] = { 'key_taken', holder }
    else
      local due = job[7] or now + job[6]
      local live = {}
      for field = 1, FIELDS do live[field] = false end
      live[STATE], live[CLAIM_TOKEN], live[QUEUE], live[NAME] = 'waiting', 0, queue, job[10]
      live[RANK], live[ORDER_AT], live[AVAILABLE_AT], live[CREATED_AT] = job[4], due + job[5], due, now
      live[HOLD] = due > now and 'delay' or false
      live[ATTEMPT], live[CRASHES], live[INTERRUPTS], live[VERSION] = 0, 0, 0, 1
      live[KEEP], live[UNIQUE_KEY], live[LIMIT_KEY] = job[8], key, job[11]
      redis.call('HSET', K_card, id, ARGV[first + place - 1])
      redis.call('ZADD', K_ids, 0, id)
      enter(id, live)
      if not queues[queue] then
        queues[queue] = true
        if redis.call('HSETNX', K_records, 'queue' .. NUL .. queue, cmsgpack.pack({ '{}', 1, now })) == 1 then
          raise_settings()
        end
      end
      fates[place] = { 'stored', id }
    end
  end
  return fates
end
