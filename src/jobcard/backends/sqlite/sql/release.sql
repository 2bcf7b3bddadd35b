-- Puts some of the delayed jobs that are due in line.
-- Safe at once with others: one statement under the write lock; a job leaves the hold once.
update {prefix}jobs
   set hold = null, version = version + 1
 where n in (
    select n from {prefix}jobs
     where state = 'waiting' and hold is not null and hold = 'delay' and available_at <= ?1
     order by available_at
     limit {released_at_once}
 )
