-- At most a thousand delayed jobs that are due, locked.
-- Safe at once with others: a job somebody else is letting in is passed over.
select n from {prefix}jobs{along by_hold}
 where held = 'delay' and available_at <= {now}
 order by available_at
 limit 1000
   for update skip locked
