-- Ids of the jobs of a batch, newest first.
-- Only reads.
--
-- ARGV[1]  [now, batch, states, id to begin below or false, at most]
-- returns  ids

local below, most, found, seen = input[4], input[5], {}, {}
walk_batch(input[2], input[3], function(_, _, from, to)
  local last = below and '(' .. string.sub(from, 2) .. below or to
  for _, member in ipairs(redis.call('ZREVRANGEBYLEX', K_batches, last, from, 'LIMIT', 0, most)) do
    local id = string.sub(member, -32)
    if not seen[id] then found[#found + 1] = id end
    seen[id] = true
  end
end)
table.sort(found, function(one, other) return one > other end)
for place = #found, most + 1, -1 do found[place] = nil end
return found
