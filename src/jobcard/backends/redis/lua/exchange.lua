-- Releases due jobs, settles what ended, claims what is wanted: the hot path, in one step.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, owner, lease, completions as in complete.lua, outcomes, wants, total and limits as in claim.lua,
--           limit keys that are freed]
--          outcomes [[id, token, change as in apply.lua, follow-ups as in add.lua or false, ARGV of their first card], …]
-- ARGV[2…] cards of follow-ups
-- returns  [claimed as in claim.lua, refusals [[id, token, verdict], …], cancels [[id, why], …], settings,
--           microseconds until the next delayed job is due, or a rate lets in one more, or false,
--           whether to go on in another script: so many keys were at their limits that others should have a turn]

local refused = begin()
if refused then return refused end
local owner, refusals = input[2], {}
release()
complete(input[4], refusals)
for _, outcome in ipairs(input[5]) do
  local id, token, change = outcome[1], outcome[2], outcome[3]
  local live = read_live(id)
  if live and live[CLAIM_TOKEN] == token and fits(live, change) then
    apply(id, live, change)
    if outcome[4] then
      add(outcome[4], outcome[5], false)
      ring()
    end
  else
    refusals[#refusals + 1] = { id, token, verdict(id, token, change[1]) }
  end
end
local may_come_in = MOST_JOBS
for _, key in ipairs(input[9]) do may_come_in = may_come_in - admission().let_in(key, may_come_in) end
local claimed, more, free_at = claim(owner, input[3], input[6], input[7], input[8])
-- Somebody else may want what was let in and not claimed, or a place that became free.
local settled = #input[4][1] + #input[5]
local for_others = next(came_in)
for queue, limit in pairs(settled > 0 and input[8] or {}) do
  local left = admission().room_in_queue(queue, limit)
  -- Where there is more, there was room before as well.
  for_others = for_others or (left > 0 and left <= settled and has_line(queue))
end
write_counts()
if for_others then ring() end
local cancels, asked = {}, redis.call('HLEN', K_cancels) > 0 and redis.call('HGETALL', K_cancels) or {}
local mine = owner .. NUL
for place = 1, #asked, 2 do
  if string.sub(asked[place], 1, #mine) == mine then
    cancels[#cancels + 1] = { string.sub(asked[place], -32), asked[place + 1] }
  end
end
local next_due = tonumber(redis.call('ZRANGE', K_due, 0, 0, 'WITHSCORES')[2] or free_at)
if next_due and free_at then next_due = math.min(next_due, free_at) end
return { claimed, refusals, cancels, tonumber(redis.call('HGET', K_meta, 'settings') or 0),
         next_due and math.max(0, next_due - now) or false, more }
