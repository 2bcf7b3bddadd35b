-- The refs of waiting jobs created at an instant or later; stands inside other statements.
-- Only reads.
select n from {prefix}jobs where state = 'waiting' and created_at >= 0 and created_at >= %(touched_since)s
