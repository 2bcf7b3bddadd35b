-- Jobs that wait for others by ascending id, above one.
-- Only reads; along an index that holds no other jobs.
select id, waits_for, version from {prefix}jobs
 where state = 'waiting' and coalesce(hold, '') = 'after' and id > %(after)s
 order by id
 limit %(limit)s
