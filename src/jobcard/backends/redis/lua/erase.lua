-- Deletes jobs whatever state they are in, with all that belongs to them but their once keys.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, ids]
-- returns  how many were there

local refused = closed()
if refused then return refused end
local there, uncounted = clear(input[2])
local number = 0
for _, id in ipairs(input[2]) do
  if there[id] then
    for _, key in ipairs({ K_card, K_live, K_attempts, K_lines }) do redis.call('HDEL', key, id) end
    redis.call('ZREM', K_ids, id)
    number = number + 1
  end
end
if uncounted then count_anew() end
write_counts()
return number
