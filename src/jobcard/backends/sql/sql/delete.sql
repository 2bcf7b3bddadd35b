-- Deletes ended jobs by their numbers.
-- Safe at once with others: their rows are locked by then.
delete from {prefix}jobs where n in (%(refs)s) and ended is not null
