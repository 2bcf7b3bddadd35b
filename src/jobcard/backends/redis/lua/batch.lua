-- The jobs of a batch, state by state and queue by queue.

-- see(state, queue, from, to): where the members of these jobs begin, and behind which they end.
local function walk_batch(batch, states, see)
  for _, state in ipairs(states) do
    local first = batch .. state .. NUL
    local from, to = '[' .. first, '(' .. batch .. state .. '\1'
    while true do
      local member = redis.call('ZRANGEBYLEX', K_batches, from, to, 'LIMIT', 0, 1)[1]
      if not member then break end
      local queue = string.sub(member, #first + 1, -34)
      see(state, queue, '[' .. first .. queue .. NUL, '(' .. first .. queue .. '\1')
      from = '[' .. first .. queue .. '\1'
    end
  end
end
