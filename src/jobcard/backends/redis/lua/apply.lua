-- Applies one change to a job, only if it is as the change expects. `Change` in core/states.py says which.
--
-- change   [sources, target, takes, version, lapsed, sets, ends, attempt, error, lines]
--          sources {state: true} · version false: any · sets [[place, kind, value], …], kind 0: as it is,
--          1: now, 2: now + value · ends: give it an `expires_at` · error false: none · lines [[ago, text], …] or false
-- returns  whether it applied

local function read_list(key, id)
  local text = redis.call('HGET', key, id)
  return text and cmsgpack.unpack(text) or {}
end
local function write_from(key, id, list, first)
  local last = {}
  for place = math.max(1, first), #list do last[#last + 1] = list[place] end
  redis.call('HSET', key, id, cmsgpack.pack(last))
end

local function keep_try(id, attempt, error)
  local tries = read_list(K_attempts, id)
  tries[#tries + 1] = { attempt, now, error }
  write_from(K_attempts, id, tries, #tries - LAST_ATTEMPTS + 1)
end

-- Characters, not bytes: every byte but those that go on with a character.
local function length(text) return select(2, string.gsub(text, '[^\128-\191]', '')) end

local function keep_lines(id, new)
  local lines, size = read_list(K_lines, id), 0
  for _, line in ipairs(new) do lines[#lines + 1] = { now - line[1], line[2] } end
  local first = #lines + 1
  while first > 1 and #lines - first + 1 < LAST_LINES do
    size = size + length(lines[first - 1][2])
    if size > LINES_TEXT then break end
    first = first - 1
  end
  write_from(K_lines, id, lines, first)
end

local function fits(live, change)
  return change[1][live[STATE]] and (not change[4] or live[VERSION] == change[4])
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
  if change[9] then keep_try(id, change[8], change[9]) end
  if change[10] then keep_lines(id, change[10]) end
end
