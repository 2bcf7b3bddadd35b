-- Ids of the claims of some owners, and of anybody whose lease has run out.
-- Only reads; what is done with them is guarded by their tokens.
--
-- ARGV[1]  [now, owners, lapsed, at most, id to go on behind or false]
-- returns  ids, ascending

local found, seen, after = {}, {}, input[5] or ''
local function take(id)
  if not seen[id] and id > after then
    seen[id] = true
    found[#found + 1] = id
  end
end
for _, owner in ipairs(input[2]) do
  local first = '(' .. owner .. NUL .. after
  if after == '' then first = '[' .. owner .. NUL end
  for _, member in ipairs(redis.call('ZRANGEBYLEX', K_held, first, '(' .. owner .. '\1', 'LIMIT', 0, input[4])) do
    take(string.sub(member, -32))
  end
end
if input[3] then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K_leases, '-inf', now)) do take(id) end
end
table.sort(found)
local most = {}
for place = 1, math.min(#found, input[4]) do most[place] = found[place] end
return most
