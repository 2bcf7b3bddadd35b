-- Writes once keys as they are, in place of those that are there.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, [[key, id, until], …]]
-- returns  nothing

local refused = begin()
if refused then return refused end
for _, once in ipairs(input[2]) do
  redis.call('HSET', K_once, once[1], cmsgpack.pack({ once[2], once[3] }))
  redis.call('ZADD', K_lapses, once[3], 'once' .. NUL .. once[1])
end
