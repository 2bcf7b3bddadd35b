-- Of some limit keys how many jobs are at work, the first queue in which jobs are held (null: in none), and the limit
-- that the first of those brings; {wanted} is a list of the keys. Only reads; whoever decides by it has their turns.
select wanted.name,
       (select count(*) from {prefix}jobs{along by_limit} where keyed = 'work' and limit_key = wanted.name),
       (select queue from {prefix}jobs{along by_limit} where keyed = 'held' and limit_key = wanted.name
         order by keyed, limit_key, queue, "rank", order_at, id limit 1),
       (select key_limit from {prefix}jobs{along by_limit} where keyed = 'held' and limit_key = wanted.name
         order by keyed, limit_key, queue, "rank", order_at, id limit 1)
  from ({wanted}) as wanted
