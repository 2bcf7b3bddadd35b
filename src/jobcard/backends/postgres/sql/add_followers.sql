-- Stores the jobs that follow changes; part of the statement that applied those.
-- Safe at once with others: it sees only jobs that this statement has changed.
-- {once_free} and {take_once} stand here only where a job has a once key: see enqueue.py.
, new_queues as (
    select given.queue from unnest(%(queues)s) as given (queue)
     where exists (select from applied)
),
new_jobs as (
    select given.*, moment.now, coalesce(given.at, moment.now + given.delay) as due
      from unnest({new_job_values}, %(leaders)s) with ordinality as given ({new_job_columns}, leader, place)
           cross join moment
     where given.leader = any(array(select n from applied)){once_free}
)
{ADD_QUEUES}{STORE}{take_once}
