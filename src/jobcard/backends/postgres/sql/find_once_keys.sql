-- The jobs that have some once keys, and whether they wait and may be replaced.
-- Only reads.
with moment as (select {now} as now)
select taken.key, taken.job_id,
       exists (select from {prefix}jobs as job
                where job.id = taken.job_id and job.state = 'waiting' and job.hold is distinct from 'broken')
  from {prefix}once as taken cross join moment
 where taken.key = any(%(keys)s) and taken.until > moment.now
