-- Whether a queue has a job to claim.
-- A look without the write lock; whoever claims looks again under it.
select 1 from {prefix}jobs where queue = ?1 and state = 'waiting' and hold is null limit 1
