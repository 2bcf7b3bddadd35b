-- Since when the first of the line is due, and how many jobs are delayed.
-- Only reads; looks at the first job of each queue and priority.
-- ARGV[1]  [now]; returns [delayed beyond now, when the job due longest was due or false]

local oldest = false
local function look(id)
  local live = read_live(id)
  if live and (not oldest or live[AVAILABLE_AT] < oldest) then oldest = live[AVAILABLE_AT] end
end
local from = '-'
for _ = 1, 10000 do
  local member = redis.call('ZRANGEBYLEX', K_line, from, '+', 'LIMIT', 0, 1)[1]
  if not member then break end
  look(string.sub(member, -32))
  from = '(' .. string.sub(member, 1, -41) .. string.rep('\255', 40)
end
local due = redis.call('ZRANGEBYSCORE', K_due, '-inf', now, 'LIMIT', 0, 1)[1]
if due then look(due) end
return { redis.call('ZCOUNT', K_due, '(' .. string.format('%.0f', now), '+inf'), oldest }
