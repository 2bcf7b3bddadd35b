-- Jobs that have not ended by slice of time: at their start, claim or creation, whichever came last.
-- Only reads; of those that wait only the ones created in that time are looked at.
select state, (stamp - %(first)s) {div} %(step)s as slice, count(*)
  from (
    select state, coalesce(started_at, claimed_at, created_at) as stamp from {prefix}jobs{along by_holder}
     where claimed_by is not null and state in ('claimed', 'running')
    union all
    select state, created_at from {prefix}jobs{along by_creation}
     where created_at >= %(first)s and created_at < %(end)s and state = 'waiting'
  ) as stamps
 where stamp >= %(first)s and stamp < %(end)s
 group by state, slice
