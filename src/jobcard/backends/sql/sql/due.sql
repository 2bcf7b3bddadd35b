-- Some of the delayed jobs that are due.
-- A look without locks: along a range a server may lock the next entry too, which is the first job that a limit holds
-- back. Whoever lets them in locks them by their numbers.
select n from {prefix}jobs{along by_hold}
 where held = 'delay' and available_at <= {now}
 order by available_at
 limit {released_at_once}
