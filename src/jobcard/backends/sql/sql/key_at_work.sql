-- How many jobs of some limit keys are at work, and the first one in line if it stands in a queue; {wanted} is a list
-- of the keys. Only reads; whoever decides by it has their turns.
select wanted.name,
       (select count(*) from {prefix}jobs{along by_limit} where keyed = 'work' and limit_key = wanted.name),
       (select case when queue = %(queue)s then n end from {prefix}jobs{along by_limit}
         where keyed = 'line' and limit_key = wanted.name order by "rank", order_at, id limit 1)
  from ({wanted}) as wanted
