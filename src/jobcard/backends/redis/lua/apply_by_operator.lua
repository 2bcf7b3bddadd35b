-- Applies one change of an operator, whoever holds the job, if its state allows it.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, id, change as in apply.lua]
-- returns  [live, card] as they are then; [id of the job that holds its unique key]; [] when it did not apply

local refused = begin()
if refused then return refused end
local id, change = input[2], input[3]
local live = read_live(id)
if not live or not fits(live, change) then return {} end
if live[UNIQUE_KEY] and ENDED[live[STATE]] and not ENDED[change[2]] then
  local holder = redis.call('HGET', K_unique, live[UNIQUE_KEY])
  if holder and holder ~= id then return { holder } end
end
local limit_key = live[STATE] == 'waiting' and live[LIMIT_KEY]
apply(id, live, change)
local answer = { redis.call('HGET', K_live, id), redis.call('HGET', K_card, id) }
-- Those behind it in line have one before them less.
if limit_key then admission().let_in(limit_key, MOST_JOBS) end
write_counts()
ring()
return answer
