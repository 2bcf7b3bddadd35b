-- Takes limits and once keys away; jobs held by a limit go back in line.
-- Safe from two processes at once: a script that looks at the version again. Takes the longer the more jobs are held.

for _, member in ipairs(redis.call('ZRANGE', K_keyed_held, 0, -1)) do
  local id = string.sub(member, -32)
  local live = read_live(id)
  if live and live[STATE] == 'waiting' and live[HOLD] == 'limit' then
    live[HOLD], live[VERSION] = false, live[VERSION] + 1
    enter(id, live)
    count(live[QUEUE], 'waiting', -1)
  end
end
write_counts()
for _, key in ipairs({ K_once, K_keyed_line, K_keyed_work, K_keyed_due, K_keyed_held, K_starts, K_lapses }) do
  redis.call('UNLINK', key)
end
