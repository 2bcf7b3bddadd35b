-- Puts jobs that waited for others in line, or among the delayed ones.
-- Safe at once with others: their rows are locked by then, and a job leaves the hold once.
update {prefix}jobs
   set hold = case when available_at > {now} then 'delay' end, version = version + 1
 where n in (%(refs)s) and state = 'waiting' and hold = 'after'
