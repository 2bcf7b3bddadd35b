-- Puts delayed jobs that are due in line.

local function quarantine(id, why)
  redis.call('SADD', K_broken, id)
end

local function release()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K_due, '-inf', now, 'LIMIT', 0, RELEASED_AT_ONCE)) do
    local live = read_live(id)
    if live then
      leave(id, live)
      live[HOLD], live[VERSION] = false, live[VERSION] + 1
      enter(id, live)
    else
      redis.call('ZREM', K_due, id)
      quarantine(id)
    end
  end
end
