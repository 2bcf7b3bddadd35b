-- Refs of jobs that ended in one state before an instant, queue by queue along the index.
-- Read under the write lock by whoever deletes them.
-- ?1 state, ?2 before, ?3 1: also those with a keep of their own, ?4 at most.
with recursive line (queue) as (
    select min(queue) from {prefix}jobs where state = ?1 and finished_at is not null
    union all
    select (select min(queue) from {prefix}jobs
             where state = ?1 and finished_at is not null and queue > line.queue)
      from line where line.queue is not null
)
select job.n
  from line cross join {prefix}jobs as job
 where job.queue = line.queue and job.state = ?1 and job.finished_at is not null and job.finished_at < ?2
   and (?3 or job.keep is null)
 limit ?4
