-- The first jobs that a limit key holds, locked, and where they stand in line.
-- Safe at once with others: whoever has the key's turn is alone with them but for operators, for whom it waits. It must
-- not pass over any: a claim that walks by has its hand on a row for a moment, and the next one would come in first.
select "rank", order_at, id, n from {prefix}jobs{along by_limit}
 where keyed = 'held' and limit_key = %(key)s
 order by "rank", order_at, id
 limit %(most)s
   for update
