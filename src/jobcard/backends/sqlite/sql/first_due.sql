-- By queue when the first of the delayed jobs was due that are so at ?1 (now).
-- Only reads; looks at some of them, those due longest.
select queue, min(available_at)
  from (
    select queue, available_at from {prefix}jobs
     where state = 'waiting' and hold is not null and hold = 'delay' and available_at <= ?1
     order by available_at
     limit {released_at_once}
  )
 group by queue
