-- Deletes ended jobs that were kept long enough, and some once keys and counted starts whose time is over.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, states, finished before or false, age or false, at most]
-- returns  how many

local refused = closed()
if refused then return refused end
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
for _, member in ipairs(redis.call('ZRANGEBYSCORE', K_lapses, '-inf', now, 'LIMIT', 0, MOST_JOBS)) do
  local kind, name = string.match(member, '^(%a+)%z(.*)$')
  redis.call('HDEL', kind == 'once' and K_once or K_starts, name)
  redis.call('ZREM', K_lapses, member)
end
return forget(ids)
