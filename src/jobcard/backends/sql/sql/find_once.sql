-- The jobs that have some once keys, whether they wait, so that another may replace what they are to do, and the limit
-- key with which they stand in line.
-- Only reads. A job may be gone and have its key still.
select once."key", once.job_id,
       case when job.state = 'waiting' and (job.hold is null or job.hold <> 'broken') then 1 else 0 end,
       case when job.state = 'waiting' and job.hold is null then job.limit_key end
  from {prefix}once as once left join {prefix}jobs as job on job.id = once.job_id
 where once."key" in (%(keys)s) and once."until" > {now}
