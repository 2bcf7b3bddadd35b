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
local owners = {}
for _, owner in ipairs(input[2]) do owners[owner] = true end
if next(owners) then
  -- All that are at work: few beside those that are not, and asked for when an engine is gone.
  for _, member in ipairs(redis.call('ZRANGE', K_leases, 0, -1)) do
    if owners[string.sub(member, 1, -34)] then take(string.sub(member, -32)) end
  end
end
if input[3] then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', K_leases, '-inf', number(now))) do
    take(string.sub(member, -32))
  end
end
table.sort(found)
local most = {}
for place = 1, math.min(#found, input[4]) do most[place] = found[place] end
return most
