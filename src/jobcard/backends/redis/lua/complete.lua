-- Records that jobs returned, each only if its claim still holds it: in bulk, as this is the hot path.
--
-- columns  [ids, tokens, results, microseconds since each start]
-- refusals get [id, token, verdict] of those that did not simply apply

local function verdict(id, token, sources)
  local live = read_live(id)
  if live and live[CLAIM_TOKEN] == token and not sources[live[STATE]] then return 'mine' end
  return 'lost'
end

local AT_WORK = { claimed = true, running = true }

local function complete(columns, refusals)
  local ids = columns[1]
  if #ids == 0 then return end
  local texts = redis.call('HMGET', K_live, unpack(ids))
  local lives, plain, kept, done, members, keyed_members = {}, {}, {}, {}, {}, {}
  local left, entered = {}, {}  -- in batches
  local settled, stamp = {}, number(now)
  for place, id in ipairs(ids) do
    local live = unpack_live(texts[place])
    local token = columns[2][place]
    if live and live[CLAIM_TOKEN] == token and AT_WORK[live[STATE]] and live[QUEUE] and not settled[id] then
      settled[id] = true
      done[#done + 1] = id
      members[#members + 1] = hold_of(id, live)
      count(live[QUEUE], live[STATE], -1)
      count(live[QUEUE], 'completed', 1)
      if live[LIMIT_KEY] then keyed_members[#keyed_members + 1] = keyed(live[LIMIT_KEY]) .. id end
      if live[BATCH] then left[#left + 1] = batch_place(id, live) end
      if live[CANCEL_REQUESTED] then redis.call('HDEL', K_cancels, hold_of(id, live)) end
      if live[UNIQUE_KEY] and redis.call('HGET', K_unique, live[UNIQUE_KEY]) == id then
        redis.call('HDEL', K_unique, live[UNIQUE_KEY])
      end
      live[STATE], live[RESULT], live[STARTED_AT], live[FINISHED_AT] = 'completed', columns[3][place], now - columns[4][place], now
      live[CLAIMED_BY], live[LEASE_UNTIL], live[CANCEL_REQUESTED], live[VERSION] = false, false, false, live[VERSION] + 1
      if live[BATCH] then entered[#entered + 1], entered[#entered + 2] = '0', batch_place(id, live) end
      if live[KEEP] then
        live[EXPIRES_AT] = now + live[KEEP]
        redis.call('ZADD', K_expires, live[EXPIRES_AT], id)
        kept[#kept + 1], kept[#kept + 2] = stamp, id
      else
        plain[#plain + 1], plain[#plain + 2] = stamp, id
      end
      lives[#lives + 1], lives[#lives + 2] = id, cmsgpack.pack(live)
    else
      refusals[#refusals + 1] = { id, token, verdict(id, token, AT_WORK) }
    end
  end
  if #done == 0 then return end
  -- First, so that a user who may not do this has half completed nothing.
  redis.call('ZREM', K_leases, unpack(members))
  redis.call('HSET', K_live, unpack(lives))
  if #keyed_members > 0 then redis.call('ZREM', K_keyed_work, unpack(keyed_members)) end
  if #left > 0 then
    redis.call('ZREM', K_batches, unpack(left))
    redis.call('ZADD', K_batches, unpack(entered))
  end
  redis.call('ZREM', K_alive, unpack(done))
  if #plain > 0 then redis.call('ZADD', K_completed, unpack(plain)) end
  if #kept > 0 then redis.call('ZADD', K_kept_completed, unpack(kept)) end
end
