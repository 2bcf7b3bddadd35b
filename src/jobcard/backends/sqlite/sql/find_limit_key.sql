-- The limit key of a job.
-- Only reads; the caller holds the write lock.
select limit_key from {prefix}jobs where id = ?1
