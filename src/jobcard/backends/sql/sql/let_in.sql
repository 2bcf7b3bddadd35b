-- Puts jobs that were held by their limit keys back in line.
-- Safe at once with others: their rows are locked by then, and a job leaves the hold once.
update {prefix}jobs
   set hold = null, version = version + 1
 where n in (%(refs)s) and state = 'waiting' and hold = 'limit'
