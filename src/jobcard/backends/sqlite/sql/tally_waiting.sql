-- How many jobs are delayed beyond ?1 (now), and since when the job due longest has been.
-- Only reads.
select (select count(*) from {prefix}jobs
         where state = 'waiting' and hold is not null and hold = 'delay' and available_at > ?1),
       (select min(available_at) from {prefix}jobs where state = 'waiting' and hold is null),
       (select min(available_at) from {prefix}jobs
         where state = 'waiting' and hold is not null and hold = 'delay' and available_at <= ?1)
