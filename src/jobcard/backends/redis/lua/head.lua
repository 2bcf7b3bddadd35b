-- What every script begins with: the names of its keys, the places of a live array, and how a job enters and leaves
-- the indexes. A job is in exactly those indexes that its state and hold put it in.
--
-- KEYS    as in keys.py, named K_card, K_live, … below; fields of a live array as in rows.py, named STATE, QUEUE, …
-- ARGV[1] msgpack array: [1] now in microseconds, false: the server's own time; the rest as each script says
--
-- A script is not undone after an error, so everything that can fail comes before the first write: memory by `begin()`.
-- A seal is a barrier because each script that writes asks for it first: by `begin()`, or by `closed()` where what it does
-- makes room in a full store. Those that write all the same are seal, truncate and migrations.

local input = cmsgpack.unpack(ARGV[1])
local now = input[1]
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local NUL = '\0'
-- As text once: a command would write it out anew wherever it stands, which costs as much as a look into a hash.
local function number(value) return string.format('%.0f', value) end

-- Why nothing may be written: the store is not there, or its jobs have moved.
local function closed()
  local found = redis.call('HMGET', K_meta, 'schema', 'seal')
  if not found[1] then return redis.error_reply('JOBCARDSCHEMA none') end
  if found[2] then return redis.error_reply('JOBCARDSEALED moved') end
end

-- To be called before anything is written: refuses a store that is closed, and one that has no memory left.
local function begin()
  local refused = closed()
  if refused then return refused end
  redis.call('HSET', K_meta, 'touched', 1)
end

local changed = {}
local function count(queue, state, by)
  local field = queue .. NUL .. state
  changed[field] = (changed[field] or 0) + by
end
-- To be called at the end of whatever moved jobs.
local function write_counts()
  for field, by in pairs(changed) do
    if by ~= 0 then redis.call('HINCRBY', K_counts, field, by) end
  end
  changed = {}
end

-- The array in a text, nil if it is none. One that an older jobcard wrote ends early: its missing fields become false,
-- as an array with a hole would not be packed as one. What a newer jobcard added behind them stays in it.
local function unpack_live(text)
  local fine, live = pcall(cmsgpack.unpack, text or '')
  if not fine or type(live) ~= 'table' or type(live[VERSION]) ~= 'number' then return nil end
  for field = #live + 1, FIELDS do live[field] = false end
  if live[LIMIT_KEY] and type(live[LIMIT_KEY]) ~= 'string' then return nil end
  if live[BATCH] and type(live[BATCH]) ~= 'string' then return nil end
  return live
end
local function read_live(id)
  local live = unpack_live(redis.call('HGET', K_live, id))
  if live and type(live[QUEUE]) == 'string'
    and type(live[CLAIM_TOKEN]) == 'number' and type(live[RANK]) == 'number' and type(live[ORDER_AT]) == 'number' then
    return live
  end
  return nil
end
local function write_live(id, live) redis.call('HSET', K_live, id, cmsgpack.pack(live)) end

local function order(live)
  return struct.pack('>I4I8', live[RANK] + 2147483648, live[ORDER_AT] + 4503599627370496)
end
local function keyed(key) return struct.pack('>I4', #key) .. key end
-- Where a job with a limit key stands among those of its queue; and where among those that its rate has put off.
local function keyed_place(id, live) return keyed(live[LIMIT_KEY]) .. live[QUEUE] .. NUL .. order(live) .. id end
local function put_off_place(id, live) return keyed(live[LIMIT_KEY]) .. struct.pack('>I8', live[AVAILABLE_AT]) .. id end
-- As `is_put_off` in core/rates.py.
local function is_put_off(live)
  return live[LIMIT_KEY] and live[ORDER_OFFSET] and live[AVAILABLE_AT] + live[ORDER_OFFSET] > live[ORDER_AT]
end

-- The sorted set that a waiting job is in: key, member, score; and a second key and member, of some with a limit key.
-- None of those that are broken, which are in a plain set.
local function places(id, live)
  local hold, key = live[HOLD], live[LIMIT_KEY]
  if not hold then
    local member = live[QUEUE] .. NUL .. order(live) .. id
    if key then return K_line, member, 0, K_keyed_line, keyed_place(id, live) end
    return K_line, member, 0
  end
  if hold == 'delay' then
    if is_put_off(live) then return K_due, id, live[AVAILABLE_AT], K_keyed_due, put_off_place(id, live) end
    return K_due, id, live[AVAILABLE_AT]
  end
  if hold == 'limit' and key then return K_keyed_held, keyed_place(id, live), 0 end
  if hold == 'parked' then return K_parked, live[NAME] .. NUL .. id, 0 end
  if hold == 'after' then return K_after, id, 0 end
end

-- Where a job of a batch stands among those of it.
local function batch_place(id, live) return live[BATCH] .. live[STATE] .. NUL .. live[QUEUE] .. NUL .. id end
-- Out of its batch, wherever one who does not know of batches, an older jobcard, has left it.
local function leave_batch(id, live)
  local members, last = {}, NUL .. live[QUEUE] .. NUL .. id
  for place, state in ipairs({ 'waiting', 'claimed', 'running', 'completed', 'failed', 'canceled' }) do
    members[place] = live[BATCH] .. state .. last
  end
  redis.call('ZREM', K_batches, unpack(members))
end

-- Without ZREM, which would let a producer end jobs: what is taken out of an index is marked first.
local function take_out(key, member)
  redis.call('ZADD', key, -1, member)
  redis.call('ZREMRANGEBYSCORE', key, -1, -1)
end

-- At work with somebody; a row that was spoiled by hand may not say with whom, and stops no other.
local function hold_of(id, live) return (live[CLAIMED_BY] or '') .. NUL .. id end
local function is_at_work(state) return state == 'claimed' or state == 'running' end
local ENDED = { completed = { K_completed, K_kept_completed }, failed = { K_failed, K_kept_failed },
                canceled = { K_canceled, K_kept_canceled } }

-- Out of every index that its state has it in.
local function leave(id, live)
  local state = live[STATE]
  count(live[QUEUE], state, -1)
  if live[BATCH] then leave_batch(id, live) end
  if state == 'waiting' then
    local key, member, _, second, keyed_member = places(id, live)
    if key then redis.call('ZREM', key, member) end
    if second then redis.call('ZREM', second, keyed_member) end
    if live[HOLD] == 'broken' then redis.call('SREM', K_broken, id) end
  elseif is_at_work(state) then
    redis.call('ZREM', K_leases, hold_of(id, live))
    if live[LIMIT_KEY] then redis.call('ZREM', K_keyed_work, keyed(live[LIMIT_KEY]) .. id) end
    if live[CANCEL_REQUESTED] then redis.call('HDEL', K_cancels, hold_of(id, live)) end
  else
    redis.call('ZREM', ENDED[state][1], id)
    redis.call('ZREM', ENDED[state][2], id)
    redis.call('ZREM', K_expires, id)
  end
end

-- Into every index that its state puts it in; writes it too. One without a lease never lapses, one that ended at no time
-- did when it was made.
local function enter(id, live)
  local state = live[STATE]
  count(live[QUEUE], state, 1)
  if live[BATCH] then redis.call('ZADD', K_batches, 0, batch_place(id, live)) end
  if ENDED[state] then
    redis.call('ZADD', ENDED[state][live[KEEP] and 2 or 1], live[FINISHED_AT] or live[CREATED_AT], id)
    if live[EXPIRES_AT] then redis.call('ZADD', K_expires, live[EXPIRES_AT], id) end
    redis.call('ZREM', K_alive, id)
    if live[UNIQUE_KEY] and redis.call('HGET', K_unique, live[UNIQUE_KEY]) == id then
      redis.call('HDEL', K_unique, live[UNIQUE_KEY])
    end
  else
    redis.call('ZADD', K_alive, live[CREATED_AT], id)
    if live[UNIQUE_KEY] then redis.call('HSET', K_unique, live[UNIQUE_KEY], id) end
    if is_at_work(state) then
      redis.call('ZADD', K_leases, live[LEASE_UNTIL] or '+inf', hold_of(id, live))
      if live[LIMIT_KEY] then redis.call('ZADD', K_keyed_work, 0, keyed(live[LIMIT_KEY]) .. id) end
      if live[CANCEL_REQUESTED] then redis.call('HSET', K_cancels, hold_of(id, live), live[CANCEL_REQUESTED]) end
    else
      local key, member, score, second, keyed_member = places(id, live)
      if key then redis.call('ZADD', key, score, member) end
      if second then redis.call('ZADD', second, 0, keyed_member) end
      if live[HOLD] == 'broken' then redis.call('SADD', K_broken, id) end
    end
  end
  write_live(id, live)
end

local function raise_settings() redis.call('HINCRBY', K_meta, 'settings', 1) end
local function ring() redis.call('PUBLISH', string.gsub(K_meta, 'meta$', 'bell'), '!') end
