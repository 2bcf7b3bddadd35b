-- Counts starts of some queues or keys, each in a slot, until when it counts.
-- Safe at once with others: who counts under a name has its lock.
insert into {prefix}starts as counted (name, slot, used, until)
select * from unnest(%(names)s, %(slots)s, %(used)s, %(untils)s) as given (name, slot, used, until)
    on conflict (name, slot)
    do update set used = counted.used + excluded.used, until = greatest(counted.until, excluded.until)
