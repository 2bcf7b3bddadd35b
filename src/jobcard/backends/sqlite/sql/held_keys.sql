-- Limit keys that hold jobs back, and the limit of the first of those; behind ?1, at most ?2.
-- Only reads; along the index of limited jobs.
select limit_key from {prefix}jobs
 where limit_key > ?1 and limit_key is not null and state = 'waiting' and hold = 'limit'
 group by limit_key order by limit_key limit ?2
