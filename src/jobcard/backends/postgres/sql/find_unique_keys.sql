-- The living jobs that hold some unique keys, and whether they wait and may be replaced.
-- Only reads.
select unique_key, id, state = 'waiting' and hold is distinct from 'broken' from {prefix}jobs
 where unique_key is not null and unique_key = any(%(keys)s) and state in ('waiting', 'claimed', 'running')
