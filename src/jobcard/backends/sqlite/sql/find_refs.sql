-- Refs and ids of those of some jobs that exist.
-- Read under the write lock by whoever writes or deletes them.
select n, id from {prefix}jobs where id in ({marks})
