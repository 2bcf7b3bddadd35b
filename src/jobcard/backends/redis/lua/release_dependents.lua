-- Puts those of these jobs that wait for others back in line, or among the delayed ones.
-- Safe at once with others: no other command runs in between, and a job leaves the hold once.
--
-- ARGV[1]  [now, ids]
-- returns  how many

local refused = begin()
if refused then return refused end
local number = 0
for _, id in ipairs(input[2]) do
  local live = read_live(id)
  if live and live[STATE] == 'waiting' and live[HOLD] == 'after' then
    come_back(id, live)
    number = number + 1
  end
end
write_counts()
if number > 0 then ring() end
return number
