-- The first jobs that a limit key holds, and where they stand in line.
-- Only reads; whoever decides by it has the key's turn, so that only an operator may change them before let_in.sql does.
select "rank", order_at, id, n from {prefix}jobs{along by_limit}
 where keyed = 'held' and limit_key = %(key)s
 order by "rank", order_at, id
 limit %(most)s
