-- Deletes every row of {prefix}lines; identity, seal and schema stay.
-- Runs in one transaction with the other tables; a holder then finds no row for its token.
delete from {prefix}lines
