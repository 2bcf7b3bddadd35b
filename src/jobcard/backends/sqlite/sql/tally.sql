-- How many jobs are in each state, how many are delayed, and since when the first of the line is due.
-- Only reads; every count walks an index of its own.
select 'waiting', (select count(*) from {prefix}jobs where state = 'waiting' and hold is null)
                + (select count(*) from {prefix}jobs where state = 'waiting' and hold is not null)
union all select state, count(*) from {prefix}jobs
           where claimed_by is not null and state in ('claimed', 'running') group by state
union all select 'completed', count(*) from {prefix}jobs where state = 'completed' and finished_at is not null
union all select 'failed', count(*) from {prefix}jobs where state = 'failed' and finished_at is not null
union all select 'canceled', count(*) from {prefix}jobs where state = 'canceled' and finished_at is not null
