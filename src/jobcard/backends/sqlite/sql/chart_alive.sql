-- Jobs that have not ended by slice of time: at their start, claim or creation, whichever came last.
-- Only reads. ?1 first, ?2 step, ?3 end. Waiting jobs are found by their creation; those at work are few.
select state, (stamp - ?1) / ?2 as slice, count(*)
  from (
    select state, coalesce(started_at, claimed_at, created_at) as stamp from {prefix}jobs
     where claimed_by is not null and state in ('claimed', 'running')
    union all
    select 'waiting', created_at from {prefix}jobs
     where state = 'waiting' and created_at >= ?1 and created_at < ?3
  )
 where stamp >= ?1 and stamp < ?3
 group by state, slice
