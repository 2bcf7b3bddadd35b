-- Deletes every row of {prefix}jobs; identity, seal and schema stay.
-- Runs in one transaction with the other tables; a holder then finds no row for its token.
delete from {prefix}jobs
