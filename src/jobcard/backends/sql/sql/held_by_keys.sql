-- Of some limit keys the limit that the first job held by each brings (-1: none; null: no job is held), and how many
-- are at work; {wanted} is a list of the keys. Only reads; whoever decides by it has their turns.
select wanted.name,
       (select coalesce(key_limit, -1) from {prefix}jobs{along by_limit}
         where keyed = 'held' and limit_key = wanted.name order by keyed, limit_key, "rank", order_at, id limit 1),
       (select count(*) from {prefix}jobs{along by_limit} where keyed = 'work' and limit_key = wanted.name)
  from ({wanted}) as wanted
