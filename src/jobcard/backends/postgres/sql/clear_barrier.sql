-- Takes away what is left of the barrier of a store that was opened.
-- Safe at once with others: under the lock of migrations; it waits for readers, but for a moment only.
drop function if exists {prefix}sealed() cascade
