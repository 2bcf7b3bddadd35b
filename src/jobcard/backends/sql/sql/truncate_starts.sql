-- Deletes some thousand rows of {prefix}starts.
-- Safe at once with others: it waits for them.
delete from {prefix}starts {some}
