-- Takes waiting for others away; jobs that do go in line, or among the delayed ones.
-- Safe from two processes at once: a script that looks at the version again. Takes the longer the more jobs wait so.

for _, id in ipairs(redis.call('ZRANGE', K_after, 0, -1)) do
  local live = read_live(id)
  if live and live[STATE] == 'waiting' and live[HOLD] == 'after' then
    live[HOLD], live[VERSION] = live[AVAILABLE_AT] > now and 'delay' or false, live[VERSION] + 1
    enter(id, live)
    count(live[QUEUE], 'waiting', -1)
  end
end
write_counts()
redis.call('UNLINK', K_after, K_batches)
