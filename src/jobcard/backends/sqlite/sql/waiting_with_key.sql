-- The first jobs of a queue that stand in line with a limit key, or are held by it. ?1 key, ?2 queue, ?3 at most.
-- Only reads; by two walks along the index of limited jobs.
select n, hold, key_limit from (
    select * from (
        select n, hold, key_limit, rank, order_at, id from {prefix}jobs
         where limit_key is not null and state in ('waiting', 'claimed', 'running')
           and limit_key = ?1 and queue = ?2 and state = 'waiting' and hold is null
         order by rank, order_at, id limit ?3
    )
    union all
    select * from (
        select n, hold, key_limit, rank, order_at, id from {prefix}jobs
         where limit_key is not null and state in ('waiting', 'claimed', 'running')
           and limit_key = ?1 and queue = ?2 and state = 'waiting' and hold = 'limit'
         order by rank, order_at, id limit ?3
    )
)
 order by rank, order_at, id limit ?3
