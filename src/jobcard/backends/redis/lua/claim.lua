-- Takes the first waiting jobs of each queue for an owner, attempt and token raised; those whose keys are at their
-- limits are put aside, and others behind them taken.
-- Safe at once with others: no other command runs in between. Order: the line is kept in it.
--
-- wants    [[queue, at most], …] · limits {queue: limit as in admission.lua}
-- returns  [[id, live, card], …] by place of the queue, then rank, order, id; whether so many were put aside that it
--          stopped; when the rate of a queue with jobs in line lets in one more, or false

local function has_line(queue)
  return #redis.call('ZRANGEBYLEX', K_line, '[' .. queue .. NUL, '(' .. queue .. '\1', 'LIMIT', 0, 1) > 0
end

local function claim(owner, lease, wants, total, limits)
  local claimed, kept_out, free = {}, 0, false
  local mine, until_then = owner .. NUL, number(now + lease)
  for _, want in ipairs(wants) do
    local queue, limit, before = want[1], limits[want[1]], #claimed
    local from, to = '[' .. queue .. NUL, '(' .. queue .. '\1'
    local most = math.min(want[2], total - before)
    if limit and most > 0 then most = math.min(most, admission().room_in_queue(queue, limit)) end
    local look = most
    while most > 0 and kept_out < KEPT_OUT_AT_ONCE do
      local members = redis.call('ZRANGEBYLEX', K_line, from, to, 'LIMIT', 0, look)
      if #members == 0 then break end
      local ids, lives, leases, last = {}, {}, {}, #members
      local keyed_line, keyed_work, keyed_held, keyed_due, due = {}, {}, {}, {}, {}
      local left, entered = {}, {}  -- in batches
      for place, member in ipairs(members) do ids[place] = string.sub(member, -32) end
      local texts, cards = redis.call('HMGET', K_live, unpack(ids)), redis.call('HMGET', K_card, unpack(ids))
      for place, id in ipairs(ids) do
        if most == 0 then
          last = place - 1
          break
        end
        local live = unpack_live(texts[place])
        local key = live and live[LIMIT_KEY]
        if key then
          keyed_line[#keyed_line + 1] = keyed_place(id, live)
          came_in[id] = nil
        end
        if live and type(live[CLAIM_TOKEN]) == 'number' and type(live[ATTEMPT]) == 'number'
          and live[STATE] == 'waiting' and cards[place] then
          local may, again = true, 0
          if key then may, again = admission().enters(live) end
          live[VERSION] = live[VERSION] + 1
          if may then
            local batch = live[BATCH]
            if batch then left[#left + 1] = batch_place(id, live) end
            live[STATE], live[CLAIM_TOKEN], live[ATTEMPT] = 'claimed', live[CLAIM_TOKEN] + 1, live[ATTEMPT] + 1
            live[CLAIMED_BY], live[CLAIMED_AT], live[LEASE_UNTIL] = owner, now, now + lease
            leases[#leases + 1], leases[#leases + 2] = until_then, mine .. id
            if key then keyed_work[#keyed_work + 1], keyed_work[#keyed_work + 2] = '0', keyed(key) .. id end
            if batch then entered[#entered + 1], entered[#entered + 2] = '0', batch_place(id, live) end
            if live[CANCEL_REQUESTED] then
              redis.call('HSET', K_cancels, mine .. id, live[CANCEL_REQUESTED])
            end
            most = most - 1
          elseif again > 0 then
            live[HOLD], live[AVAILABLE_AT] = 'delay', again
            due[#due + 1], due[#due + 2] = again, id
            if is_put_off(live) then
              keyed_due[#keyed_due + 1], keyed_due[#keyed_due + 2] = 0, put_off_place(id, live)
            end
          else
            live[HOLD] = 'limit'
            keyed_held[#keyed_held + 1], keyed_held[#keyed_held + 2] = 0, keyed_place(id, live)
          end
          local text = cmsgpack.pack(live)
          lives[#lives + 1], lives[#lives + 2] = id, text
          if may then claimed[#claimed + 1] = { id, text, cards[place] } else kept_out = kept_out + 1 end
        else
          quarantine(id)
        end
      end
      if last > 0 then redis.call('ZREMRANGEBYLEX', K_line, '[' .. members[1], '[' .. members[last]) end
      if #lives > 0 then redis.call('HSET', K_live, unpack(lives)) end
      if #leases > 0 then redis.call('ZADD', K_leases, unpack(leases)) end
      count(queue, 'waiting', -#leases / 2)
      count(queue, 'claimed', #leases / 2)
      if #keyed_line > 0 then redis.call('ZREM', K_keyed_line, unpack(keyed_line)) end
      if #keyed_work > 0 then redis.call('ZADD', K_keyed_work, unpack(keyed_work)) end
      if #keyed_held > 0 then redis.call('ZADD', K_keyed_held, unpack(keyed_held)) end
      if #due > 0 then redis.call('ZADD', K_due, unpack(due)) end
      if #keyed_due > 0 then redis.call('ZADD', K_keyed_due, unpack(keyed_due)) end
      if #left > 0 then
        redis.call('ZREM', K_batches, unpack(left))
        redis.call('ZADD', K_batches, unpack(entered))
      end
      -- Who looks at few may have to look often.
      look = math.max(most, math.min(2 * look, MOST_JOBS))
    end
    if limit and limit[2] and total > 0 then
      local again = admission().count_of_queue(queue, limit[2], #claimed - before)
      if again > now and has_line(queue) then free = math.min(free or again, again) end
    end
  end
  if made then made.count_started() end
  return claimed, kept_out >= KEPT_OUT_AT_ONCE and #claimed < total, free
end
