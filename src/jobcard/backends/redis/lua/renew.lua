-- Holds claims for longer, unless they were lost or their lease has run out.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, owner, lease, ids, tokens]
-- returns  ids of those that are gone

local refused = begin()
if refused then return refused end
local gone = {}
for place, id in ipairs(input[4]) do
  local live = read_live(id)
  if live and live[CLAIM_TOKEN] == input[5][place] and live[CLAIMED_BY] == input[2] and is_at_work(live[STATE])
    and live[LEASE_UNTIL] and live[LEASE_UNTIL] > now then
    live[LEASE_UNTIL] = now + input[3]
    write_live(id, live)
    redis.call('ZADD', K_leases, live[LEASE_UNTIL], live[CLAIMED_BY] .. NUL .. id)
  else
    gone[#gone + 1] = id
  end
end
return gone
