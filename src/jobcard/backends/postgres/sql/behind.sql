-- Which of some jobs that this transaction has claimed have another one of their key before them in line: somebody else
-- is claiming that one right now.
-- Only reads; the caller has the locks of the keys.
select job.n
  from unnest(%(refs)s) as given (n) join {prefix}jobs as job on job.n = given.n
 where exists (
    select from {prefix}jobs as before
     where before.limit_key >= '' and before.limit_key = job.limit_key and before.state = 'waiting'
       and before.hold is null and before.queue = job.queue
       and (before.rank, before.order_at, before.id) < (job.rank, job.order_at, job.id)
 )
