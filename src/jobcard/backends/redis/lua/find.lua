-- Walks down the ids and finds those whose live part fits; at most 1,000 looks in one call.
-- Only reads.
--
-- ARGV[1]  [now, id to begin below or false, at most, states, queues, names (each {value: true} or false),
--           error kind, after, before, text, limit key (each false: any)]
-- returns  [ids, id to go on below or false when all were seen]

local first = input[2] and '(' .. input[2] or '+'
local seen = redis.call('ZREVRANGEBYLEX', K_ids, first, '-', 'LIMIT', 0, 1000)
local found = {}
local text = input[10]
for place, id in ipairs(seen) do
  local live = read_live(id)
  if live and (not input[4] or input[4][live[STATE]]) and (not input[5] or input[5][live[QUEUE]])
    and (not input[6] or input[6][live[NAME]]) and (not input[7] or live[ERROR_KIND] == input[7])
    and (not input[11] or live[LIMIT_KEY] == input[11])
    and (not input[8] or live[CREATED_AT] >= input[8]) and (not input[9] or live[CREATED_AT] < input[9]) then
    local dashed = text and string.gsub(id, '(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(.*)', '%1-%2-%3-%4-%5')
    if not text or string.find(live[NAME], text, 1, true) or string.find(dashed, string.lower(text), 1, true) then
      found[#found + 1] = id
      if #found >= input[3] then return { found, id } end
    end
  end
end
return { found, #seen == 1000 and seen[#seen] }
