-- Deletes jobs by their numbers, whatever state they are in.
-- Safe at once with others: their rows are locked by then, and a holder then finds no row for its token.
delete from {prefix}jobs where n in (%(refs)s)
