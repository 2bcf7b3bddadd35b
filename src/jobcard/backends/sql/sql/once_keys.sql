-- Once keys in force, by ascending key.
-- Only reads; along the keys themselves.
select "key", job_id, "until" from {prefix}once
 where "key" > %(after)s and "until" > {now}
 order by "key"
 limit %(limit)s
