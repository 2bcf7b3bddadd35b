-- The kept log lines of some jobs, each job's oldest first.
-- Only reads.
select job.id, line.at, line.text
  from {prefix}jobs as job join {prefix}log_lines as line on line.n = job.n
 where job.id in (%(ids)s)
 order by line.n, line.place
