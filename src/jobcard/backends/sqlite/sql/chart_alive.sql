-- Jobs that have not ended by slice of time: at their start, claim or creation, whichever came last.
-- Only reads. ?1 first, ?2 step, ?3 end.
select state, (stamp - ?1) / ?2 as slice, count(*)
  from (
    select state, coalesce(started_at, claimed_at, created_at) as stamp from {prefix}jobs
     where claimed_by is not null and state in ('claimed', 'running')
    union all
    select state, created_at from {prefix}jobs where state = 'waiting' and hold is null
    union all
    select state, created_at from {prefix}jobs where state = 'waiting' and hold is not null
  )
 where stamp >= ?1 and stamp < ?3
 group by state, slice
