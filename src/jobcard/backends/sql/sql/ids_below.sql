-- The id so many places below another one.
-- Only reads.
select job.id from {prefix}jobs as job{along by_id} where job.id < %(before_id)s order by job.id desc
 limit 1 offset %(reach)s
