-- Jobs that wait for others by ascending id above ?1, ?2 at most.
-- Only reads; along an index that holds no other jobs.
select id, waits_for, version from {prefix}jobs
 where state = 'waiting' and hold is not null and hold = 'after' and id > ?1
 order by id
 limit ?2
