-- The version of settings, and when the next delayed job is due.
-- Only reads.
select (select value from {prefix}meta where key = 'settings'),
       (select available_at from {prefix}jobs
         where state = 'waiting' and hold is not null and hold = 'delay'
         order by available_at limit 1)
