-- Puts those of these jobs that wait for others, as they were read, back in line or among the delayed ones.
-- Safe at once with others: no other command runs in between, and a job leaves the hold once.
--
-- ARGV[1]  [now, [[id, version], …]]
-- returns  how many

local refused = begin()
if refused then return refused end
local number = 0
for _, one in ipairs(input[2]) do
  local id = one[1]
  local live = read_live(id)
  if live and live[STATE] == 'waiting' and live[HOLD] == 'after' and live[VERSION] == one[2] then
    come_back(id, live)
    number = number + 1
  end
end
write_counts()
if number > 0 then ring() end
return number
