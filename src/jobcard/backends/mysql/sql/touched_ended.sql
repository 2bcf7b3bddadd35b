-- Refs of jobs that ended in some states and queues at an instant or later; stands inside other statements.
-- Only reads; {ends} comes from lookup.py: each queue in which jobs ended in that state.
select job.n
  from ({ends}) as end_of straight_join {prefix}jobs as job force index (by_end)
 where job.ended = end_of.state and job.queue = end_of.queue and job.finished_at >= %(touched_since)s
