-- Puts those of some jobs that wait for others in line, or among the delayed ones; their number.
-- Safe at once with others: rows are locked in one order for everybody, and a job leaves the hold once.
with moment as (select {now} as now),
released as (
    update {prefix}jobs as job
       set hold = case when job.available_at > moment.now then 'delay' end, version = job.version + 1
      from moment
     where job.n = any(array(
        select n from {prefix}jobs
         where id = any(%(ids)s) and state = 'waiting' and coalesce(hold, '') = 'after'
         order by n
           for no key update
     ))
    returning 1
)
select count(*) from released
