-- Lets everybody write to one table again.
-- Safe at once with others: under the write lock.
drop trigger if exists {table}_sealed_{write}
