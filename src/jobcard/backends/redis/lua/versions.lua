-- The versions of jobs by their ids; the server reads their rows and hands out no more than that.
-- Only reads.
--
-- ARGV[1]  [now, id to go on behind or false, at most]
-- returns  [ids, versions], ascending; -1 for a job that cannot be read

-- As rows.py reads it.
local function is_whole(live, card)
  if not (live and card) then return false end
  for _, field in ipairs({ ATTEMPT, CLAIM_TOKEN, CREATED_AT, AVAILABLE_AT, live[ORDER_OFFSET] and ORDER_OFFSET or ORDER_AT }) do
    if type(live[field]) ~= 'number' then return false end
  end
  local fine, fixed = pcall(cmsgpack.unpack, string.sub(card, 33))
  return fine and type(fixed) == 'table' and type(fixed[ARGS]) == 'string' and type(fixed[MAX_ATTEMPTS]) == 'number'
end

local from = input[2] and '(' .. input[2] or '-'
local ids, versions = redis.call('ZRANGEBYLEX', K_ids, from, '+', 'LIMIT', 0, input[3]), {}
if #ids > 0 then
  local lives, cards = redis.call('HMGET', K_live, unpack(ids)), redis.call('HMGET', K_card, unpack(ids))
  for place = 1, #ids do
    local live = unpack_live(lives[place])
    versions[place] = is_whole(live, cards[place]) and live[VERSION] or -1
  end
end
return { ids, versions }
