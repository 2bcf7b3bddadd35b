-- Deletes jobs that have ended, with all that belongs to them; what `prune` and `delete` have in common.
-- returns how many

local function forget(ids)
  local number = 0
  for _, id in ipairs(ids) do
    local live = read_live(id)
    if live and ENDED[live[STATE]] then
      leave(id, live)
      for _, key in ipairs({ K_card, K_live, K_attempts, K_lines }) do redis.call('HDEL', key, id) end
      redis.call('ZREM', K_ids, id)
      number = number + 1
    end
  end
  write_counts()
  return number
end
