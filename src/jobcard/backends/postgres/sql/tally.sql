-- How many jobs are in each state, how many are delayed, and how long the first of the line has been due.
-- Only reads; every count walks an index of its own.
with moment as (select {now} as now),
line as (
    select count(*) as jobs, min(available_at) as since from {prefix}jobs where state = 'waiting' and hold is null
),
due as (
    select available_at as since from {prefix}jobs, moment
     where state = 'waiting' and hold is not null and hold = 'delay' and available_at <= moment.now
     order by available_at limit 1
)
select (select jobs from line)
       + (select count(*) from {prefix}jobs where state = 'waiting' and hold is not null),
       (select count(*) from {prefix}jobs where claimed_by is not null and state = 'claimed'),
       (select count(*) from {prefix}jobs where claimed_by is not null and state = 'running'),
       (select count(*) from {prefix}jobs where state = 'completed' and finished_at is not null),
       (select count(*) from {prefix}jobs where state = 'failed' and finished_at is not null),
       (select count(*) from {prefix}jobs where state = 'canceled' and finished_at is not null),
       (select count(*) from {prefix}jobs
         where state = 'waiting' and hold is not null and hold = 'delay' and available_at > (select now from moment)),
       (select now from moment) - least((select since from line), (select since from due))
