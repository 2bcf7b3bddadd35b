-- How many jobs are in each state, how many are delayed, since when the first of the line is due, and the store's time.
-- Only reads; every count walks an index of its own.
select (select count(*) from {prefix}jobs{along by_line} where line is not null),
       (select count(*) from {prefix}jobs{along by_hold} where held is not null),
       (select count(*) from {prefix}jobs{along by_holder} where claimed_by is not null and state = 'claimed'),
       (select count(*) from {prefix}jobs{along by_holder} where claimed_by is not null and state = 'running'),
       (select count(*) from {prefix}jobs{along by_end} where ended = 'completed'),
       (select count(*) from {prefix}jobs{along by_end} where ended = 'failed'),
       (select count(*) from {prefix}jobs{along by_end} where ended = 'canceled'),
       (select count(*) from {prefix}jobs{along by_hold} where held = 'delay' and available_at > {now}),
       (select min(available_at) from {prefix}jobs{along by_line} where line is not null),
       (select min(available_at) from {prefix}jobs{along by_hold}
         where held = 'delay' and available_at <= {now}),
       {now}
