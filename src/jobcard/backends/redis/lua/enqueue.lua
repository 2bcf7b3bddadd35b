-- Stores up to 1,000 new jobs, all or nothing: one script is one step.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]   [now, jobs as in add.lua]
-- ARGV[2…]  their cards
-- returns   [[fate, id of the job that is there], …]

local refused = begin()
if refused then return refused end
local fates = add(input[2], 2, true)
write_counts()
ring()
return fates
