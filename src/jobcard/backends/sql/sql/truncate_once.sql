-- Deletes some thousand rows of {prefix}once.
-- Safe at once with others: it waits for them.
delete from {prefix}once {some}
