-- Which of some limit keys have room for the first job that each holds in a queue; {wanted} is a list of keys and
-- queues. Only reads; whoever lets jobs in looks again when he has the turns.
select distinct name from (
    select wanted.name,
           (select count(*) from {prefix}jobs{along by_limit} where keyed = 'work' and limit_key = wanted.name) as busy,
           (select coalesce(key_limit, %(none)s) from {prefix}jobs{along by_limit}
             where keyed = 'held' and limit_key = wanted.name and queue = wanted.queue
             order by keyed, limit_key, queue, "rank", order_at, id limit 1) as most
      from ({wanted}) as wanted
) as found where busy < most
