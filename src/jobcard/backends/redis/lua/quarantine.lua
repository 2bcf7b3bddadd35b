-- Takes unreadable jobs out of every index that may name them; their bytes stay.
--
-- ARGV[1]  [now, ids]

for _, id in ipairs(input[2]) do
  redis.call('SADD', K_broken, id)
  redis.call('ZREM', K_leases, id)
  for _, member in ipairs(redis.call('ZRANGE', K_held, 0, -1)) do
    if string.sub(member, -32) == id then redis.call('ZREM', K_held, member) end
  end
end
return #input[2]
