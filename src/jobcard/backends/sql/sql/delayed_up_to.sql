-- How many jobs are delayed, counted no further than a limit.
-- Only reads.
select count(*) from (
    select n from {prefix}jobs{along by_hold} where held = 'delay' and available_at > {now} limit %(most)s
) as found
