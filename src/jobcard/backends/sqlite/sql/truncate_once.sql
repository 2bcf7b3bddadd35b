-- Deletes every row of {prefix}once.
-- Runs in one transaction with the other tables.
delete from {prefix}once
