-- How many jobs are delayed, counted no further than a limit.
-- Only reads.
with moment as (select {now} as now)
select count(*) from (
    select from {prefix}jobs
     where state = 'waiting' and hold is not null and hold = 'delay' and available_at > (select now from moment)
     limit %(limit)s
) as found
