-- The kept log lines of some jobs, oldest first.
-- Only reads.
select job.id, line.at, line.text
  from {prefix}jobs as job join {prefix}log_lines as line on line.n = job.n
 where job.id = any(%(ids)s)
 order by line.place
