-- Refs of those of some jobs that have ended.
-- Read under the write lock by whoever deletes them. The + keeps it with the index of ids.
select n from {prefix}jobs where id in ({marks}) and +finished_at is not null
   and +state in ('completed', 'failed', 'canceled')
