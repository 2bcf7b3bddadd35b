-- Limit keys that hold jobs back, and the queues in which they do, some of those behind one, in order; and whether the
-- key has room for the first of them.
-- Only reads, without the locks of the keys: whoever lets jobs in looks again. From queue to queue along the index of
-- limited jobs, whatever number each of them holds.
with recursive line (key, queue) as (
    select %(key)s::text collate "C", %(queue)s::text collate "C"
    union all
    select next.limit_key, next.queue
      from line
           cross join lateral (
               select limit_key, queue from {prefix}jobs as job
                where limit_key >= '' and state = 'waiting' and hold = 'limit'
                  and (job.limit_key, job.queue) > (line.key, line.queue)
                order by job.limit_key, job.queue
                limit 1
           ) as next
),
few as (select key, queue from line offset 1 limit %(limit)s)
select key, queue,
       (select coalesce(key_limit, 1::bigint << 62) from {prefix}jobs
         where limit_key >= '' and limit_key = few.key and state = 'waiting' and hold = 'limit' and queue = few.queue
         order by rank, order_at, id
         limit 1)
       > (select count(*) from {prefix}jobs
           where limit_key >= '' and limit_key = few.key and state in ('claimed', 'running') and hold is null)
  from few
