-- Deletes jobs in one state whose own keep has run out; how many.
-- Safe at once with others: a job somebody else is deleting is passed over.
with moment as (select {now} as now),
doomed as (
    select n from {prefix}jobs
     where expires_at is not null and expires_at <= (select now from moment) and state = %(state)s
       and state in ('completed', 'failed', 'canceled')
     order by expires_at
     limit %(limit)s
       for update skip locked
)
{DELETE_DOOMED}
