-- The refs of jobs to which something happened at an instant or later, along indexes; stands inside a condition. {ended}: the
-- states of those, as lookup.py says.
-- Only reads; of the jobs that have ended, those that did so earlier are not looked at.
select n from {prefix}jobs where state = 'waiting' and created_at >= 0 and created_at >= %(touched_since)s
union all
select n from {prefix}jobs
 where claimed_by is not null
   and (created_at >= %(touched_since)s or claimed_at >= %(touched_since)s or started_at >= %(touched_since)s)
union all
select job.n
  from (
    with recursive line (state, queue) as (
        select ended.state, (select min(queue) from {prefix}jobs
                              where state = ended.state and finished_at is not null)
          from unnest(array[{ended}]::text[]) as ended (state)
        union all
        select line.state, (select min(queue) from {prefix}jobs
                             where state = line.state and finished_at is not null and queue > line.queue)
          from line where line.queue is not null
    )
    select state, queue from line where queue is not null
  ) as line join {prefix}jobs as job
    on job.state = line.state and job.queue = line.queue and job.finished_at is not null
   and job.finished_at >= %(touched_since)s
