-- Ended jobs by slice of time, queue by queue along the index.
-- Only reads; {ends} comes from lookup.py: each queue in which jobs ended in that state.
select job.ended, (job.finished_at - %(first)s) div %(step)s as slice, count(*)
  from ({ends}) as end_of straight_join {prefix}jobs as job force index (by_end)
 where job.ended = end_of.state and job.queue = end_of.queue
   and job.finished_at >= %(first)s and job.finished_at < %(end)s
 group by job.ended, slice
