-- The version of settings, when the next delayed job is due, and the store's time.
-- Only reads.
select (select number from {prefix}meta where name = 'settings'),
       (select available_at from {prefix}jobs{along by_hold}
         where held = 'delay' order by available_at limit 1),
       {now}
