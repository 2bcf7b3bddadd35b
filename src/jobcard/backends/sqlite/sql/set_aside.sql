-- Parked jobs by name, and broken ones under none, each counted no further than a limit.
-- Only reads; along the index of held jobs.
select name, count(*) from (
    select name from {prefix}jobs where state = 'waiting' and hold is not null and hold = 'parked' limit ?1
) group by name
union all
select null, count(*) from (
    select 1 from {prefix}jobs where state = 'waiting' and hold is not null and hold = 'broken' limit ?1
)
