-- Forgets once keys whose time is over.
-- Safe at once with others: whoever takes such a key meanwhile waits, or is waited for and found to have it.
delete from {prefix}once where "until" <= {now} {some}
