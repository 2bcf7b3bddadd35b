-- Puts a held job back in line where it was in it, or among the delayed ones.

local function come_back(id, live)
  leave(id, live)
  live[HOLD] = live[AVAILABLE_AT] > now and 'delay' or false
  live[VERSION] = live[VERSION] + 1
  enter(id, live)
end
