-- Deletes those of some jobs that have ended; how many.
-- Safe at once with others: a job that was put back in line meanwhile is not ended and stays.
with doomed as (
    select n from {prefix}jobs
     where id = any(%(ids)s) and state in ('completed', 'failed', 'canceled')
     order by n
       for update
)
{DELETE_DOOMED}
