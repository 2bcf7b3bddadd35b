-- By queue how long the first of the delayed jobs has been due that are so.
-- Only reads; looks at some of them, those due longest.
select queue, {now} - min(available_at)
  from (
    select queue, available_at from {prefix}jobs{along by_hold}
     where held = 'delay' and available_at <= {now}
     order by available_at
     limit {released_at_once}
  ) as due
 group by queue
