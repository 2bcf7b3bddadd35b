-- How many jobs of a batch are in each queue and state, from the index alone.
-- Only reads. With a limit it looks at the rows of some that live, as somebody waits for the last of them: an older
-- jobcard does not know of this index, and leaves those it moved where they were.
--
-- ARGV[1]  [now, batch, states, limit or false]
-- returns  [[queue, state, how many], …]; with a limit some may be counted further

local limit, numbers, seen = input[4], {}, {}
local function add(queue, state, number)
  local field = queue .. NUL .. state
  numbers[field] = (numbers[field] or 0) + number
  return numbers[field]
end

local function look_at_rows(state, queue, from, to)
  while true do
    local members = redis.call('ZRANGEBYLEX', K_batches, from, to, 'LIMIT', 0, math.min(limit, 100))
    if #members == 0 then return end
    for _, member in ipairs(members) do
      local id = string.sub(member, -32)
      local text = not seen[id] and redis.call('HGET', K_live, id)
      seen[id] = true
      local live = unpack_live(text)
      if live and not ENDED[live[STATE]] then add(live[QUEUE], live[STATE], 1) end
      if text and not live then add(queue, state, 1) end
    end
    if add(queue, state, 0) >= limit then return end
    from = '(' .. members[#members]
  end
end

walk_batch(input[2], input[3], function(state, queue, from, to)
  if limit and not ENDED[state] then
    look_at_rows(state, queue, from, to)
  else
    add(queue, state, redis.call('ZLEXCOUNT', K_batches, from, to))
  end
end)
local answer = {}
for field, number in pairs(numbers) do
  local queue, state = string.match(field, '^(.*)%z(.*)$')
  if number > 0 then answer[#answer + 1] = { queue, state, number } end
end
return answer
