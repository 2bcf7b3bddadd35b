-- Once keys in force, by ascending key, above one.
-- Only reads; along the keys themselves.
with moment as (select {now} as now)
select key, job_id, until from {prefix}once, moment
 where key > %(after)s and until > moment.now
 order by key
 limit %(limit)s
