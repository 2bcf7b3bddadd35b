-- Once keys in force by ascending key above ?1. ?2 now, ?3 at most.
-- Only reads; along the keys themselves.
select key, job_id, until from {prefix}once where key > ?1 and until > ?2 order by key limit ?3
