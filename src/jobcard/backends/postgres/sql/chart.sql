-- Jobs by state and slice of time, each at its latest stamp.
-- Only reads; jobs that ended outside the time are not looked at.
with recursive line (state, queue) as (
    select ended.state, (select min(queue) from {prefix}jobs
                          where state = ended.state and finished_at is not null)
      from unnest(array['completed', 'failed', 'canceled']) as ended (state)
    union all
    select line.state, (select min(queue) from {prefix}jobs
                         where state = line.state and finished_at is not null and queue > line.queue)
      from line where line.queue is not null
),
stamps (state, stamp) as (
    select state, created_at from {prefix}jobs
     where state = 'waiting' and created_at >= 0 and created_at >= %(first)s and created_at < %(end)s
    union all
    select state, coalesce(started_at, claimed_at, created_at) from {prefix}jobs
     where claimed_by is not null and state in ('claimed', 'running')
    union all
    select job.state, job.finished_at
      from line join {prefix}jobs as job
        on job.state = line.state and job.queue = line.queue and job.finished_at is not null
       and job.finished_at >= %(first)s and job.finished_at < %(end)s
)
select state, (stamp - %(first)s) / %(step)s as slice, count(*) from stamps
 where stamp >= %(first)s and stamp < %(end)s
 group by state, slice
