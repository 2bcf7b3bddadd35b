-- Refs of waiting jobs created at an instant or later; stands inside other statements.
-- Only reads. What has ended since its creation is looked at too, and is touched as well.
select n from {prefix}jobs{along by_creation} where created_at >= %(touched_since)s and state = 'waiting'
