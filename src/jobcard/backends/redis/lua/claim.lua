-- Takes the first waiting jobs of each queue for an owner, attempt and token raised.
-- Safe at once with others: no other command runs in between. Order: the line is kept in it.
--
-- wants    [[queue, at most], …]
-- returns  [[id, live, card], …] by place of the queue, then rank, order, id

local function claim(owner, lease, wants, total)
  local claimed = {}
  for _, want in ipairs(wants) do
    local queue, most = want[1], math.min(want[2], total - #claimed)
    while most > 0 do
      local members = redis.call('ZRANGEBYLEX', K_line, '[' .. queue .. NUL, '(' .. queue .. '\1', 'LIMIT', 0, most)
      if #members == 0 then break end
      local ids, lives, leases, held = {}, {}, {}, {}
      for place, member in ipairs(members) do ids[place] = string.sub(member, -32) end
      local texts, cards = redis.call('HMGET', K_live, unpack(ids)), redis.call('HMGET', K_card, unpack(ids))
      for place, id in ipairs(ids) do
        local live = unpack_live(texts[place])
        if live and type(live[CLAIM_TOKEN]) == 'number' and type(live[ATTEMPT]) == 'number'
          and live[STATE] == 'waiting' and cards[place] then
          live[STATE], live[CLAIM_TOKEN], live[ATTEMPT] = 'claimed', live[CLAIM_TOKEN] + 1, live[ATTEMPT] + 1
          live[CLAIMED_BY], live[CLAIMED_AT], live[LEASE_UNTIL] = owner, now, now + lease
          live[VERSION] = live[VERSION] + 1
          local text = cmsgpack.pack(live)
          lives[#lives + 1], lives[#lives + 2] = id, text
          leases[#leases + 1], leases[#leases + 2] = now + lease, id
          held[#held + 1], held[#held + 2] = 0, owner .. NUL .. id
          if live[CANCEL_REQUESTED] then
            redis.call('HSET', K_cancels, owner .. NUL .. id, live[CANCEL_REQUESTED])
          end
          claimed[#claimed + 1] = { id, text, cards[place] }
          count(queue, 'waiting', -1)
          count(queue, 'claimed', 1)
          most = most - 1
        else
          quarantine(id)
        end
      end
      redis.call('ZREM', K_line, unpack(members))
      if #lives > 0 then
        redis.call('HSET', K_live, unpack(lives))
        redis.call('ZADD', K_leases, unpack(leases))
        redis.call('ZADD', K_held, unpack(held))
      end
    end
  end
  return claimed
end
