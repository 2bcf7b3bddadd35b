-- The jobs of an owner that somebody asked to cancel, and why.
-- Only reads.
select n, cancel_requested from {prefix}jobs{along by_holder}
 where claimed_by = %(owner)s and told = 1 order by n
