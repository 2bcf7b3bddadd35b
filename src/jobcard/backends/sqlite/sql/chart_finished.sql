-- Ended jobs of one state by slice of time, queue by queue along the index.
-- Only reads. ?1 state, ?2 first, ?3 step, ?4 end.
with recursive line (queue) as (
    select min(queue) from {prefix}jobs where state = ?1 and finished_at is not null
    union all
    select (select min(queue) from {prefix}jobs
             where state = ?1 and finished_at is not null and queue > line.queue)
      from line where line.queue is not null
)
select ?1, (job.finished_at - ?2) / ?3 as slice, count(*)
  from line cross join {prefix}jobs as job
 where job.queue = line.queue and job.state = ?1 and job.finished_at is not null
   and job.finished_at >= ?2 and job.finished_at < ?4
 group by slice
