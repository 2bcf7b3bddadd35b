-- The version of settings, when the next delayed job is due, and the word that the store is sealed with.
-- Only reads.
select (select value from {prefix}meta where key = 'settings'),
       (select available_at from {prefix}jobs
         where state = 'waiting' and hold is not null and hold = 'delay'
         order by available_at limit 1),
       (select value from {prefix}meta where key = 'seal')
