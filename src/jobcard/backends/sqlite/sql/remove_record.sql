-- Removes a record.
-- Safe at once with others: the second finds no row.
delete from {prefix}records where kind = ?1 and key = ?2
