-- How many jobs with a limit key are at work.
-- Only reads; along the index of limited jobs.
select count(*) from {prefix}jobs
 where limit_key is not null and state in ('waiting', 'claimed', 'running')
   and limit_key = ?1 and state in ('claimed', 'running') and hold is null
