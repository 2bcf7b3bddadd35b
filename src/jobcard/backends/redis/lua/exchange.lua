-- Releases due jobs, settles what ended, claims what is wanted: the hot path, in one step.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, owner, lease, completions as in complete.lua, outcomes, wants, total]
--          outcomes [[id, token, change as in apply.lua, follow-ups as in add.lua or false, ARGV of their first card], …]
-- ARGV[2…] cards of follow-ups
-- returns  [claimed as in claim.lua, refusals [[id, token, verdict], …], cancels [[id, why], …], settings,
--           microseconds until the next delayed job is due or false]

local refused = begin()
for _, outcome in ipairs(input[5]) do
  if outcome[4] then refused = refused or sealed() end
end
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
      add(outcome[4], outcome[5])
      ring()
    end
  else
    refusals[#refusals + 1] = { id, token, verdict(id, token, change[1]) }
  end
end
local claimed = claim(owner, input[3], input[6], input[7])
write_counts()
local cancels, asked = {}, redis.call('HLEN', K_cancels) > 0 and redis.call('HGETALL', K_cancels) or {}
local mine = owner .. NUL
for place = 1, #asked, 2 do
  if string.sub(asked[place], 1, #mine) == mine then
    cancels[#cancels + 1] = { string.sub(asked[place], -32), asked[place + 1] }
  end
end
local next_due = redis.call('ZRANGE', K_due, 0, 0, 'WITHSCORES')[2]
return { claimed, refusals, cancels, tonumber(redis.call('HGET', K_meta, 'settings') or 0),
         next_due and math.max(0, tonumber(next_due) - now) or false }
