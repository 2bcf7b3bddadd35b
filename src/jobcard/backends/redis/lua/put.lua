-- Writes jobs as they are, each in place of the one with its id; a living one whose unique key another living job has
-- is left out, and what is there of it stays.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]   [now, ids]; those that have ended come first, as one may give a key free that a living one has by now
-- ARGV[2…]  live, card, tries and lines of each; the last two are empty where there are none
-- returns   ids of those left out

local refused = begin()
if refused then return refused end
local jobs, ids, ended, taken, left_out = {}, {}, {}, {}, {}
for place, id in ipairs(input[2]) do
  local first = 4 * place - 2
  local live = cmsgpack.unpack(ARGV[first])
  ended[id] = ENDED[live[STATE]] ~= nil
  local key = not ended[id] and live[UNIQUE_KEY]
  local holder = key and (taken[key] or redis.call('HGET', K_unique, key))
  if holder and holder ~= id and not ended[holder] then
    left_out[#left_out + 1] = id
  else
    if key then taken[key] = id end
    ids[#ids + 1] = id
    jobs[#jobs + 1] = { live = live, card = ARGV[first + 1], tries = ARGV[first + 2], lines = ARGV[first + 3] }
  end
end
if #ids == 0 then return left_out end
local there, uncounted = clear(ids)
local function keep(key, id, text)
  if text ~= '' then redis.call('HSET', key, id, text) elseif there[id] then redis.call('HDEL', key, id) end
end
for place, id in ipairs(ids) do
  local job = jobs[place]
  redis.call('HSET', K_card, id, job.card)
  redis.call('ZADD', K_ids, 0, id)
  keep(K_attempts, id, job.tries)
  keep(K_lines, id, job.lines)
  enter(id, job.live)
  know(job.live[QUEUE])
end
if uncounted then count_anew() end
write_counts()
return left_out
