-- The job that has a once key.
-- Only reads; the caller holds the write lock.
select job_id from {prefix}once where key = ?1
