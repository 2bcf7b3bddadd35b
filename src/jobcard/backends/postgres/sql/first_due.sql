-- By queue how long the first job has been due: of each queue and priority in line, and of some delayed jobs that are
-- due, those due longest. Only reads, one look at the index for each; what stands behind them is not looked at.
with recursive moment as (select {now} as now),
line (queue, rank, available_at) as (
    (select queue, rank, available_at from {prefix}jobs where state = 'waiting' and hold is null
      order by queue, rank, order_at, id limit 1)
    union all
    select behind.queue, behind.rank, behind.available_at
      from line cross join lateral (
        select queue, rank, available_at from {prefix}jobs
         where state = 'waiting' and hold is null and (queue, rank) > (line.queue, line.rank)
         order by queue, rank, order_at, id limit 1
      ) as behind
),
due as (
    select queue, available_at from {prefix}jobs
     where state = 'waiting' and hold is not null and hold = 'delay' and available_at <= (select now from moment)
     order by available_at
     limit {released_at_once}
)
select queue, (select now from moment) - min(available_at)
  from (select queue, available_at from line union all select queue, available_at from due) as found
 group by queue
