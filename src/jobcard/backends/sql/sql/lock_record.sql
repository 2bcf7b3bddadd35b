-- The version of a record, its row locked; no row: there is none.
-- Safe at once with others: whoever comes second waits.
select version from {prefix}records where kind = %(kind)s and "key" = %(key)s for update
