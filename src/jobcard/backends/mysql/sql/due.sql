-- Some of the delayed jobs that are due, locked.
-- Safe at once with others: a job somebody else is letting in is passed over. Found without locks first: along a range
-- the server locks the next entry too, which is the first job that a limit holds back.
select job.n
  from (
    select n from {prefix}jobs{along by_hold}
     where held = 'delay' and available_at <= {now}
     order by available_at
     limit {released_at_once}
  ) as due {join} {prefix}jobs as job{along primary} on job.n = due.n
 where job.held = 'delay' and job.available_at <= {now}
   for update skip locked
