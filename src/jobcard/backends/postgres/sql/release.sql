-- Puts some of the delayed jobs that are due in line.
-- Safe at once with others: a job somebody else is letting in is passed over, and a job leaves the hold once.
with moment as (select {now} as now)
update {prefix}jobs
   set hold = null, version = version + 1
 where n = any(array(
    select n from {prefix}jobs
     where state = 'waiting' and hold is not null and hold = 'delay'
       and available_at <= (select now from moment)
     order by available_at
     limit {released_at_once}
       for no key update skip locked
 ))
