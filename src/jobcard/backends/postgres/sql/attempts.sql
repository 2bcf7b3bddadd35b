-- The kept tries of some jobs, oldest first.
-- Only reads.
select job.id, try.attempt, try.at, try.error
  from {prefix}jobs as job join {prefix}attempts as try on try.n = job.n
 where job.id = any(%(ids)s)
 order by try.place
