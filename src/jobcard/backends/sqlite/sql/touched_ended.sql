-- Refs of jobs that ended in one state at an instant or later, queue by queue along the index.
-- Only reads; stands inside other statements.
select ref from (
    with recursive line (state, queue) as (
        select wanted.state, (select min(queue) from {prefix}jobs where state = wanted.state and finished_at is not null)
          from (select ? as state) as wanted
        union all
        select line.state, (select min(queue) from {prefix}jobs
                             where state = line.state and finished_at is not null and queue > line.queue)
          from line where line.queue is not null
    )
    select job.n as ref
      from line cross join {prefix}jobs as job
     where job.queue = line.queue and job.state = line.state and job.finished_at is not null
       and job.finished_at >= ?
)
