-- Deletes one job, whatever state it is in.
-- Safe at once with others: under the write lock; a holder then finds no row for its token.
delete from {prefix}jobs where n = ?1
