-- The limit that the first job held by its key brings.
-- Only reads; along the index of limited jobs.
select key_limit from {prefix}jobs
 where limit_key = ?1 and limit_key is not null and state = 'waiting' and hold = 'limit'
 order by rank, order_at, id limit 1
