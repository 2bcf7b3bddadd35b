-- The kept tries of some jobs, oldest first.
-- Only reads.
select job.id, attempt.attempt, attempt.at, attempt.error
  from {prefix}jobs as job join {prefix}attempts as attempt on attempt.n = job.n
 where job.id in (%(ids)s)
 order by attempt.n, attempt.place
