-- Deletes every row of {prefix}starts.
-- Runs in one transaction with the other tables.
delete from {prefix}starts
