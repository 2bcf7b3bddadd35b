-- The jobs of an owner that somebody asked to cancel, and why.
-- Only reads.
select n, cancel_requested from {prefix}jobs
 where claimed_by = ?1 and claimed_by is not null and cancel_requested is not null
