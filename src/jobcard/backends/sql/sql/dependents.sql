-- Jobs that wait for others by ascending id, above one.
-- Only reads; along an index that no other job is in.
select id, waits_for, version from {prefix}jobs{along by_dependent}
 where dependent > %(after)s
 order by dependent
 limit %(limit)s
