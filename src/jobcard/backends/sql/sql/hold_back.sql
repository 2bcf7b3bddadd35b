-- Holds jobs of the line whose limit keys are at their limits.
-- Safe at once with others: claim.sql has locked them, and whoever holds them has the turns of their keys.
update {prefix}jobs
   set hold = 'limit', version = version + 1
 where n in (%(refs)s) and state = 'waiting' and hold is null
