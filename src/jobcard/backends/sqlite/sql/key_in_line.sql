-- How many jobs with a limit key stand in line, counted no further than ?2.
-- Only reads; along the index of limited jobs.
select count(*) from (
    select 1 from {prefix}jobs
     where limit_key = ?1 and limit_key is not null and state = 'waiting' and hold is null limit ?2
)
