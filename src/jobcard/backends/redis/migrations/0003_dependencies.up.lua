-- Jobs that wait for others, and jobs of batches, into their indexes: those there are, some at a time, as no other
-- command runs meanwhile.
-- Safe from two processes at once: a script that looks at the version again; whoever comes goes on where it is. Older
-- engines may go on; the jobs of a batch that they move are not found where they are: let them end before there are any.

local from = redis.call('HGET', K_meta, 'indexed')
local ids = redis.call('ZRANGEBYLEX', K_ids, from and '(' .. from or '-', '+', 'LIMIT', 0, 1000)
for _, id in ipairs(ids) do
  local live = read_live(id)
  if live and live[BATCH] then redis.call('ZADD', K_batches, 0, batch_place(id, live)) end
  if live and live[STATE] == 'waiting' and live[HOLD] == 'after' then redis.call('ZADD', K_after, 0, id) end
end
if #ids == 1000 then
  redis.call('HSET', K_meta, 'indexed', ids[1000])
  return MORE
end
redis.call('HDEL', K_meta, 'indexed')
