-- Where the first jobs of a limit key that stand in line in a queue stand in it.
-- Only reads; whoever decides by it has the key's turn.
select "rank", order_at, id from {prefix}jobs{along by_limit}
 where keyed = 'line' and limit_key = %(key)s and queue = %(queue)s
 order by "rank", order_at, id
 limit %(most)s
