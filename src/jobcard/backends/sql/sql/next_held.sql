-- The next queue in which a limit key holds jobs, and the limit that the first of them brings.
-- Only reads. One queue at a time, as in next_ended.sql.
select queue, key_limit from {prefix}jobs{along by_limit}
 where keyed = 'held' and limit_key = %(key)s and queue > %(queue)s
 order by queue, "rank", order_at, id
 limit 1
