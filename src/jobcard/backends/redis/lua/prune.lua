-- Deletes ended jobs that were kept long enough.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, states, finished before or false, age or false, at most]
-- returns  how many

local ids, seen, most = {}, {}, input[5]
local function take(found)
  for _, id in ipairs(found) do
    if #ids < most and not seen[id] then
      seen[id] = true
      ids[#ids + 1] = id
    end
  end
end
for _, state in ipairs(input[2]) do if ENDED[state] then
  if input[3] then
    for _, key in ipairs(ENDED[state]) do
      take(redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. string.format('%.0f', input[3]), 'LIMIT', 0, most))
    end
  end
  if input[4] then
    take(redis.call('ZRANGEBYSCORE', ENDED[state][1], '-inf', '(' .. string.format('%.0f', now - input[4]), 'LIMIT', 0, most))
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', K_expires, '-inf', now, 'LIMIT', 0, most)) do
      local live = read_live(id)
      if live and live[STATE] == state then take({ id }) end
    end
  end
end end
return forget(ids)
