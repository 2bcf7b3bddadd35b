-- Puts jobs parked under some names back in line where they were in it, or among the delayed ones; their number.
-- Safe at once with others: one statement; a job leaves the hold once.
with moment as (select {now} as now),
unparked as (
    update {prefix}jobs as job
       set hold = case when job.available_at > moment.now then 'delay' end, version = job.version + 1
      from moment
     where job.state = 'waiting' and job.hold is not null and job.hold = 'parked' and job.name = any(%(names)s)
    returning 1
)
select count(*) from unparked
