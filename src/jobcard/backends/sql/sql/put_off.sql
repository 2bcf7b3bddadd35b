-- Delays jobs of the line whose limit keys have used up their rates; they keep their places in the line.
-- Safe at once with others: claim.sql has locked them, and whoever delays them has the turns of their keys. {until}
-- picks a job's own value by its number.
update {prefix}jobs
   set hold = 'delay', available_at = {until}, version = version + 1
 where n in (%(refs)s) and state = 'waiting' and hold is null
