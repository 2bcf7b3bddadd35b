-- Puts jobs back in line whose limit key has room again; looks at no more keys in one call than a script may.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, key to go on behind or false, at most]
-- returns  [how many, key to go on behind or false, whether there may be more]

local function next_key(from)
  local member = redis.call('ZRANGEBYLEX', K_keyed_held, from, '+', 'LIMIT', 0, 1)[1]
  return member and string.sub(member, 5, 4 + struct.unpack('>I4', member))
end
local limits = admission()
local function behind(key) return key and select(2, limits.from_to(key)) or '-' end

local refused = closed()
if refused then return refused end
local after, most, number, key = input[2], input[3], 0, next_key(behind(input[2]))
if not key then return { 0, false, false } end
begin()  -- not before: a look that finds nothing writes nothing
for _ = 1, MOST_JOBS do
  number = number + limits.let_in(key, most - number)
  if number >= most then break end  -- this key may have room for more
  after, key = key, next_key(behind(key))
  if not key then break end
end
write_counts()
if number > 0 then ring() end
return { number, after, key and true or false }
