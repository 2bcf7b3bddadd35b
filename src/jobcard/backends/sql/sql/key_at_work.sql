-- How many jobs of some limit keys are at work, and the first one in line in a queue; {wanted} is a list of the keys. Only reads; whoever decides by it has their turns. Sorted by every column of the index: MySQL takes what
-- comes from outside for no constant, and would sort all of the line.
select wanted.name,
       (select count(*) from {prefix}jobs{along by_limit} where keyed = 'work' and limit_key = wanted.name),
       (select n from {prefix}jobs{along by_limit}
         where keyed = 'line' and limit_key = wanted.name and queue = %(queue)s
         order by keyed, limit_key, queue, "rank", order_at, id limit 1)
  from ({wanted}) as wanted
