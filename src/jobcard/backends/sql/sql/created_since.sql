-- Refs of jobs created at an instant or later, in whatever state they are; stands inside other statements.
-- Only reads.
select n from {prefix}jobs{along by_creation} where created_at >= %(touched_since)s
