-- Refs of waiting jobs created at an instant or later; stands inside other statements.
-- Only reads.
select n as ref from {prefix}jobs where state = 'waiting' and created_at >= ?
