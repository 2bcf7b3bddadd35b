-- Some of the delayed jobs that are due, locked.
-- Safe at once with others: a job somebody else is letting in is passed over.
select n from {prefix}jobs{along by_hold}
 where held = 'delay' and available_at <= {now}
 order by available_at
 limit {released_at_once}
   for update skip locked
