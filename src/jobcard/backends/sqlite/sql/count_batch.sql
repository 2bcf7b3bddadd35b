-- Jobs of a batch in one state by queue, each queue counted up to a limit (-1: to the end). ?1 batch, ?2 state.
-- Only reads; along the index of batches alone, from one queue to the next.
with recursive queues (queue) as (
    select min(queue) from {prefix}jobs indexed by {prefix}jobs_batch
     where batch_id is not null and batch_id = ?1 and state = ?2
    union all
    select (
        select min(job.queue) from {prefix}jobs as job indexed by {prefix}jobs_batch
         where job.batch_id is not null and job.batch_id = ?1 and job.state = ?2 and job.queue > queues.queue
    ) from queues where queue is not null
)
select queues.queue, (
    select count(*) from (
        select 1 from {prefix}jobs indexed by {prefix}jobs_batch
         where batch_id is not null and batch_id = ?1 and state = ?2 and queue = queues.queue and {where}
         limit ?
    )
) from queues where queue is not null
