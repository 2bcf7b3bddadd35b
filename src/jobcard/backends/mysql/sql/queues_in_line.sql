-- The queues that have jobs in line, one look at the index for each.
-- Only reads.
select line from {prefix}jobs force index (by_line) where line is not null group by line
