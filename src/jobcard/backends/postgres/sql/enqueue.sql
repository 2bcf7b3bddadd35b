-- Stores new jobs, due or delayed; which of them, if not all: an id, a unique key or a once key may be taken.
-- Safe at once with others: ids and unique keys are unique indexes, and whoever comes second waits and is told.
-- {once_free} and {take_once} stand here only where a job has a once key: see enqueue.py.
with moment as (select {now} as now),
new_queues as (
    select given.queue from unnest(%(queues)s) as given (queue)
),
new_jobs as (
    select given.*, moment.now, coalesce(given.at, moment.now + given.delay) as due
      from unnest({new_job_values}) with ordinality as given ({new_job_columns}, place)
           cross join moment
     where true{once_free}
)
{ADD_QUEUES}{STORE}{take_once}
select case when (select count(*) from stored) < %(count)s then array(select id from stored) end
