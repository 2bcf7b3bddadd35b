-- Applies one change to a job, only if it is as the change expects. `Change` in core/states.py says which.
--
-- change   [sources, target, takes, hold, lapsed, sets, ends, attempt, error, lines]
--          sources {state: true} · hold false: whatever it is · sets [[place, kind, value], …], kind 0: as it is,
--          1: now, 2: now + value · ends: give it an `expires_at` · error false: none · lines [[ago, text], …] or false
-- returns  whether it applied

local function append(key, id, entry, most, most_text)
  local text = redis.call('HGET', key, id)
  local list = text and cmsgpack.unpack(text) or {}
  for _, one in ipairs(entry) do list[#list + 1] = one end
  local size = 0
  local first = #list + 1
  while first > 1 and #list - first + 1 < most do
    size = size + #tostring(list[first - 1][#list[first - 1]])
    if most_text and size > most_text and first <= #list then break end
    first = first - 1
  end
  local last = {}
  for place = first, #list do last[#last + 1] = list[place] end
  redis.call('HSET', key, id, cmsgpack.pack(last))
end

local function fits(live, change)
  return change[1][live[STATE]] and (not change[4] or live[HOLD] == change[4])
    and (not change[5] or (live[LEASE_UNTIL] and live[LEASE_UNTIL] <= now))
end

local function apply(id, live, change)
  leave(id, live)
  live[STATE] = change[2]
  for _, set in ipairs(change[6]) do
    local value = set[3]
    if set[2] == 1 then value = now elseif set[2] == 2 then value = now + value end
    live[set[1]] = value
  end
  if change[3] then live[CLAIM_TOKEN] = live[CLAIM_TOKEN] + 1 end
  if change[7] then live[EXPIRES_AT] = live[KEEP] and now + live[KEEP] end
  live[VERSION] = live[VERSION] + 1
  enter(id, live)
  if change[9] then append(K_attempts, id, { { change[8], now, change[9] } }, 20) end
  if change[10] then
    local lines = {}
    for place, line in ipairs(change[10]) do lines[place] = { now - line[1], line[2] } end
    append(K_lines, id, lines, 1000, 65536)
  end
end
