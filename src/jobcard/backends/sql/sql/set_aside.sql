-- Parked jobs by name, and broken ones under none, each counted no further than a limit.
-- Only reads; along the index of held jobs.
select name, count(*) from (
    select name from {prefix}jobs{along by_hold} where held = 'parked' limit %(most)s
) as parked group by name
union all
select null, count(*) from (
    select n from {prefix}jobs{along by_hold} where held = 'broken' limit %(most)s
) as broken
