-- Since when the first of the line is due, in all and in each queue, and how many jobs are delayed.
-- Only reads; looks at the first job of each queue and priority, and at some of those that are due and not released.
-- ARGV[1]  [now]; returns [delayed beyond now, when the job due longest was due or false, [queue, when its own, …]]

local oldest, by_queue, queues = false, {}, {}
local function look(id)
  local live = read_live(id)
  if not live then return end
  local queue, at = live[QUEUE], live[AVAILABLE_AT]
  if not oldest or at < oldest then oldest = at end
  if not by_queue[queue] then queues[#queues + 1] = queue end
  if not by_queue[queue] or at < by_queue[queue] then by_queue[queue] = at end
end
local from = '-'
for _ = 1, 10000 do
  local member = redis.call('ZRANGEBYLEX', K_line, from, '+', 'LIMIT', 0, 1)[1]
  if not member then break end
  look(string.sub(member, -32))
  from = '(' .. string.sub(member, 1, -41) .. string.rep('\255', 40)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K_due, '-inf', now, 'LIMIT', 0, 1000)) do look(id) end
local each = {}
for _, queue in ipairs(queues) do
  each[#each + 1] = queue
  each[#each + 1] = by_queue[queue]
end
return { redis.call('ZCOUNT', K_due, '(' .. string.format('%.0f', now), '+inf'), oldest, each }
