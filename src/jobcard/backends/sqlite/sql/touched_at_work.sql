-- Refs of jobs at work created, claimed or started at an instant or later, of all that are at work.
-- Only reads; stands inside other statements.
select n as ref from {prefix}jobs
 where claimed_by is not null and state in ('claimed', 'running')
   and (created_at >= ? or claimed_at >= ? or started_at >= ?)
