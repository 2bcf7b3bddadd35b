-- Refs of those of some jobs that have ended, locked.
-- Safe at once with others: whoever deletes them too waits, and then finds none.
select n from {prefix}jobs where id in (%(ids)s) and ended is not null for update
