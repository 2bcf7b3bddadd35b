-- The stamps of jobs that have not ended: at their start, claim or creation, whichever came last; stands inside another
-- statement. Only reads.
select state, created_at as stamp from {prefix}jobs
 where state = 'waiting' and created_at >= 0 and created_at >= %(first)s and created_at < %(end)s
union all
select state, coalesce(started_at, claimed_at, created_at) from {prefix}jobs
 where claimed_by is not null and state in ('claimed', 'running')
