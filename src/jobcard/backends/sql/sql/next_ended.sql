-- The next queue in which jobs ended in one state.
-- Only reads. One queue at a time: to find them all by a grouping is to walk all that ended, whenever the server's
-- statistics make it think so.
select queue from {prefix}jobs{along by_end}
 where ended = %(state)s and queue > %(queue)s
 order by queue
 limit 1
