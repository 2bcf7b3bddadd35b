-- Puts jobs parked under these names back in line where they were in it, or among the delayed ones.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, names]
-- returns  how many, at most 500 in one call

local refused = begin()
if refused then return refused end
local number = 0
for _, name in ipairs(input[2]) do
  for _, member in ipairs(redis.call('ZRANGEBYLEX', K_parked, '[' .. name .. NUL, '(' .. name .. '\1', 'LIMIT', 0, 500 - number)) do
    local id = string.sub(member, -32)
    local live = read_live(id)
    redis.call('ZREM', K_parked, member)
    if live then
      come_back(id, live)
      number = number + 1
    else
      redis.call('SADD', K_broken, id)
    end
  end
  if number >= 500 then break end
end
write_counts()
if number > 0 then ring() end
return number
