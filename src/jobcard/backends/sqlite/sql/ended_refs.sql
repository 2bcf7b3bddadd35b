-- Refs of those of some jobs that have ended.
-- Read under the write lock by whoever deletes them.
select n from {prefix}jobs where id in ({marks}) and finished_at is not null
   and state in ('completed', 'failed', 'canceled')
