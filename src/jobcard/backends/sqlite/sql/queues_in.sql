-- The queues that have jobs under a condition, one look at the index for each.
-- Only reads.
with recursive line (queue) as (
    select min(queue) from {prefix}jobs where {where}
    union all
    select (select min(queue) from {prefix}jobs where {where} and queue > line.queue)
      from line where line.queue is not null
)
select queue from line where queue is not null
