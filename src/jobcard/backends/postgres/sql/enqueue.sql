-- Stores new jobs, due or delayed; which of them, if not all: an id, a unique key or a once key may be taken.
-- Safe at once with others: ids and unique keys are unique indexes, and whoever comes second waits and is told. The
-- seal is read by the statement itself; whoever sets it first locks the table against it.
-- {once_free} and {take_once} stand here only where a job has a once key: see producing.py.
with moment as (select {now} as now),
meta as (select seal from {prefix}meta),
new_queues as (
    select given.queue from unnest(%(queues)s) as given (queue) cross join meta
     where meta.seal is null
),
new_jobs as (
    select given.*, moment.now, coalesce(given.at, moment.now + given.delay) as due
      from unnest({new_job_values}) with ordinality as given ({new_job_columns}, place)
           cross join moment cross join meta as sealed
     where sealed.seal is null{once_free}
)
{STORE}{take_once}
select (select seal is not null from meta),
       case when (select count(*) from stored) < %(count)s then array(select id from stored) end
