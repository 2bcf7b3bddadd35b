-- Refs and ids of those of some jobs that exist, locked.
-- Safe at once with others: whoever writes or deletes them too waits.
select n, id from {prefix}jobs where id in (%(ids)s) for update
