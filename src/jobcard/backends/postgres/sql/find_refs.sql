-- The refs of some jobs.
-- Only reads.
select n from {prefix}jobs where id = any(%(ids)s)
