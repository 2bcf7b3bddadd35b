-- Writes the tries of jobs, the oldest of each job first.
-- Runs in the transaction that has written these jobs.
insert into {prefix}attempts (n, attempt, at, error)
select job.n, try.attempt, try.at, try.error
  from unnest(%(ids)s, %(numbers)s, %(times)s, %(texts)s) with ordinality as try (id, attempt, at, error, place)
       join {prefix}jobs as job on job.id = try.id
 order by try.place
