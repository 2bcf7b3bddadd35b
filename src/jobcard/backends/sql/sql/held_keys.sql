-- The next limit keys that hold jobs and the queues in which they do, behind one of them; as many as there are among a
-- number of held jobs. Only reads; whoever lets jobs in looks again when he has the turns.
select distinct limit_key, queue from (
    select limit_key, queue from {prefix}jobs{along by_limit}
     where keyed = 'held' and (limit_key > %(key)s or (limit_key = %(key)s and queue > %(queue)s))
     order by limit_key, queue
     limit %(most)s
) as few order by limit_key, queue
