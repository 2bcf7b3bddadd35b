-- Puts those of some jobs that wait for others, as they were read, in line or among the delayed ones; their number.
-- Safe at once with others: rows are locked in one order for everybody, and a job leaves the hold once.
with moment as (select {now} as now),
released as (
    update {prefix}jobs as job
       set hold = case when job.available_at > moment.now then 'delay' end, version = job.version + 1
      from moment
     where job.n = any(array(
        select n from unnest(%(ids)s, %(versions)s) as seen (id, version) join {prefix}jobs as waiting using (id, version)
         where waiting.state = 'waiting' and coalesce(waiting.hold, '') = 'after'
         order by n
           for no key update of waiting
     ))
    returning 1
)
select count(*) from released
