-- The living jobs that hold some unique keys.
-- Only reads.
select unique_key, id from {prefix}jobs
 where unique_key is not null and unique_key = any(%(keys)s) and state in ('waiting', 'claimed', 'running')
