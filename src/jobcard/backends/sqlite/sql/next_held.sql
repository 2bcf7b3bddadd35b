-- The first job that is held by a limit key, of the next key and queue behind these. ?1 key, ?2 queue.
-- Only reads; one step along the index of limited jobs.
select limit_key, queue, key_limit from {prefix}jobs
 where limit_key is not null and state in ('waiting', 'claimed', 'running')
   and state = 'waiting' and hold = 'limit' and (limit_key, queue) > (?1, ?2)
 order by limit_key, queue, rank, order_at, id
 limit 1
