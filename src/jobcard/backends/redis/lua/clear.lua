-- Takes jobs out of every index, whatever state they are in; what `put` and `erase` have in common. Their rows, tries and
-- lines are left to those.

-- All members of a sorted set whose scores are equal, a thousand at a time.
local function walk(key, see)
  local from = '-'
  repeat
    local members = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, 1000)
    if #members > 0 then see(members) end
    from = #members == 1000 and '(' .. members[1000]
  until not from
end

local function step_out(id, live)
  leave(id, live)
  local key = live[UNIQUE_KEY]
  if key and redis.call('HGET', K_unique, key) == id then redis.call('HDEL', K_unique, key) end
end

-- Jobs that cannot be read do not say where they stand: whatever names one of them. Takes the longer the more there are.
local function search_out(torn)
  for _, key in ipairs({ K_line, K_parked, K_keyed_line, K_keyed_work, K_keyed_due, K_keyed_held, K_batches }) do
    walk(key, function(members)
      for _, member in ipairs(members) do
        if torn[string.sub(member, -32)] then redis.call('ZREM', key, member) end
      end
    end)
  end
  for _, member in ipairs(redis.call('ZRANGE', K_leases, 0, -1)) do
    if torn[string.sub(member, -32)] then
      redis.call('ZREM', K_leases, member)
      redis.call('HDEL', K_cancels, member)
    end
  end
  for id in pairs(torn) do
    redis.call('ZREM', K_due, id)
    redis.call('ZREM', K_after, id)
    redis.call('ZREM', K_expires, id)
    for _, keys in pairs(ENDED) do
      for _, key in ipairs(keys) do redis.call('ZREM', key, id) end
    end
  end
  local cursor = '0'
  repeat
    local found = redis.call('HSCAN', K_unique, cursor, 'COUNT', 1000)
    cursor = found[1]
    for place = 1, #found[2], 2 do
      if torn[found[2][place + 1]] then redis.call('HDEL', K_unique, found[2][place]) end
    end
  until cursor == '0'
end

-- returns  {id: true} of those that are there; whether counts must be made anew, as nobody knows how one was counted
local function clear(ids)
  -- First, as whoever may take nothing away is refused by it before anything is changed. Without a look at their rows:
  -- those that were set aside unread do not say so.
  redis.call('SREM', K_broken, unpack(ids))
  redis.call('ZREM', K_alive, unpack(ids))
  local there, torn = {}, {}
  for _, id in ipairs(ids) do
    local live = read_live(id)
    there[id] = live or redis.call('ZSCORE', K_ids, id)
    -- A row that says what no row says breaks off in the middle; what it is named in still is found by the search.
    if there[id] and not (live and pcall(step_out, id, live)) then torn[id] = true end
  end
  local some = next(torn) ~= nil
  if some then search_out(torn) end
  return there, some
end

-- To be called in place of what was counted one by one, when all rows are written.
local function count_anew()
  changed = {}
  local counts = redis.call('HGETALL', K_counts)
  for place = 1, #counts, 2 do changed[counts[place]] = -counts[place + 1] end
  walk(K_ids, function(ids)
    for _, text in ipairs(redis.call('HMGET', K_live, unpack(ids))) do
      local live = unpack_live(text)
      if live and type(live[QUEUE]) == 'string' and type(live[STATE]) == 'string' then
        count(live[QUEUE], live[STATE], 1)
      end
    end
  end)
end
