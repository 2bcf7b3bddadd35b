-- Refs of jobs at work created, claimed or started at an instant or later; stands inside other statements.
-- Only reads; walks all claims, which are few.
select n from {prefix}jobs{along by_holder}
 where claimed_by is not null and state in ('claimed', 'running')
   and (created_at >= %(touched_since)s or claimed_at >= %(touched_since)s or started_at >= %(touched_since)s)
