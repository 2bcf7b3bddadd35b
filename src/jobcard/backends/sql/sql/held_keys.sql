-- The next limit keys that hold jobs, behind one of them; as many as there are among a number of held jobs.
-- Only reads; whoever lets jobs in looks again when he has the turns.
select distinct limit_key from (
    select limit_key from {prefix}jobs{along by_limit}
     where keyed = 'held' and limit_key > %(after)s order by limit_key limit %(most)s
) as few order by limit_key
