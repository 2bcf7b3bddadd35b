-- The queues in which jobs ended in one state, one look at the index for each.
-- Only reads.
select queue from {prefix}jobs force index (by_end) where ended = %(state)s group by queue
