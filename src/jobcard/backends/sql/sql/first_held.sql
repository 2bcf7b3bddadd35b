-- The first jobs that a limit key holds in a queue, where they stand in line, and the limit that each brings.
-- Only reads; whoever decides by it has the key's turn, so that only an operator may change them before let_in.sql does.
select "rank", order_at, id, n, key_limit from {prefix}jobs{along by_limit}
 where keyed = 'held' and limit_key = %(key)s and queue = %(queue)s
 order by "rank", order_at, id
 limit %(most)s
