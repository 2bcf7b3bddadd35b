-- The ends of jobs in some states, {ended}, within a time; stands inside another statement.
-- Only reads. `offset 0`: one look at the index for each queue, whatever the planner thinks of it.
select ends.state, ends.stamp
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
    select line.state, job.finished_at as stamp
      from line cross join lateral (
        select finished_at from {prefix}jobs
         where state = line.state and queue = line.queue and finished_at is not null
           and finished_at >= %(first)s and finished_at < %(end)s
        offset 0
      ) as job
     where line.queue is not null
  ) as ends
