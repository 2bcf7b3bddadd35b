-- The refs of jobs that ended in some states at an instant or later, queue by queue along the index; stands inside other
-- statements. {ended}: the states, as lookup.py says.
-- Only reads. `offset 0`: one look at the index for each queue, whatever the planner thinks of it.
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
  ) as line cross join lateral (
    select n from {prefix}jobs
     where state = line.state and queue = line.queue and finished_at is not null and finished_at >= %(touched_since)s
    offset 0
  ) as job
