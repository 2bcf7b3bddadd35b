-- Writes the log lines of jobs, the oldest of each job first.
-- Runs in the transaction that has written these jobs.
insert into {prefix}log_lines (n, at, text)
select job.n, line.at, line.text
  from unnest(%(ids)s, %(times)s, %(texts)s) with ordinality as line (id, at, text, place)
       join {prefix}jobs as job on job.id = line.id
 order by line.place
