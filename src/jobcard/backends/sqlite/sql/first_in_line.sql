-- When the first of each queue and priority in line was due; what stands behind it is not looked at.
-- Only reads, one look at the index for each.
with recursive line (n) as (
    select (select n from {prefix}jobs where state = 'waiting' and hold is null
             order by queue, rank, order_at, id limit 1)
    union all
    select (select n from {prefix}jobs
             where state = 'waiting' and hold is null and (queue, rank) > (first.queue, first.rank)
             order by queue, rank, order_at, id limit 1)
      from line join {prefix}jobs as first on first.n = line.n
)
select queue, available_at from line join {prefix}jobs as job on job.n = line.n
