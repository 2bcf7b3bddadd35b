-- How many jobs are delayed beyond ?1 (now), counted no further than a limit.
-- Only reads.
select count(*) from (
    select 1 from {prefix}jobs
     where state = 'waiting' and hold is not null and hold = 'delay' and available_at > ?1
     limit ?2
)
