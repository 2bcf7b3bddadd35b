-- Each state and queue in which jobs ended, one look at the index for each pair.
-- Only reads. Not by state alone: MariaDB would then walk all that ended.
select ended, queue from {prefix}jobs force index (by_end) where ended is not null group by ended, queue
