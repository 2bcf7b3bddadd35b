-- Removes a record.
-- Safe at once with others: the second finds no row.
delete from {prefix}records where kind = %(kind)s and "key" = %(key)s
