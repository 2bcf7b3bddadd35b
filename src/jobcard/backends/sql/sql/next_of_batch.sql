-- The next queue in which a batch has jobs, in whatever state.
-- Only reads. One queue at a time, as in next_ended.sql.
select queue from {prefix}jobs{along by_batch}
 where batch_id = %(batch_id)s and queue > %(queue)s
 order by queue
 limit 1
