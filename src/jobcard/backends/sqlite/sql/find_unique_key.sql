-- The living job that holds a unique key.
-- Only reads; the caller holds the write lock.
select id from {prefix}jobs
 where unique_key is not null and unique_key = ?1 and state in ('waiting', 'claimed', 'running')
