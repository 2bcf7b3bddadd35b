-- The refs of jobs at work created, claimed or started at an instant or later; stands inside other statements.
-- Only reads; looks at all that are at work.
select n from {prefix}jobs
 where claimed_by is not null
   and (created_at >= %(touched_since)s or claimed_at >= %(touched_since)s or started_at >= %(touched_since)s)
