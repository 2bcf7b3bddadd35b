-- The first jobs of a queue's line, as the limits of their keys see them. ?1 queue, ?2 at most.
-- Only reads; the caller holds the write lock.
select n, limit_key, key_limit, rate_count, rate_per from {prefix}jobs
 where queue = ?1 and state = 'waiting' and hold is null
 order by rank, order_at, id
 limit ?2
