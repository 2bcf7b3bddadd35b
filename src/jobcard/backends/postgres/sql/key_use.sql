-- How far the limits of some limit keys are used: jobs at work, counted starts by slot; and the time.
-- Only reads. Who may claim a job with such a key has its lock.
with moment as (select {now} as now)
select given.key,
       (select count(*) from {prefix}jobs
         where limit_key >= '' and limit_key = given.key and state in ('claimed', 'running') and hold is null),
       array(select slot from {prefix}starts where name = given.name and until > moment.now order by slot),
       array(select used from {prefix}starts where name = given.name and until > moment.now order by slot),
       moment.now
  from unnest(%(keys)s, %(names)s) as given (key, name) cross join moment
