-- The next queue that has jobs in line.
-- Only reads. One queue at a time, as in next_ended.sql.
select line from {prefix}jobs{along by_line} where line > %(queue)s order by line limit 1
