-- Jobs by ascending id and the version of each; -1 for one that cannot be read.
-- Only reads; along the index of ids.
select id, case when {unreadable} then -1 else version end from {prefix}jobs{along by_id}
 where id > %(after)s
 order by id
 limit %(limit)s
