-- How long the first job of the next priority in a queue's line has been due.
-- Only reads.
select "rank", {now} - available_at from {prefix}jobs{along by_line}
 where line = %(queue)s and "rank" > %(above)s
 order by line, "rank", order_at, id
 limit 1
