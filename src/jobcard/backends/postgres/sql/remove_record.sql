-- Removes a record.
-- Safe at once with others: the second finds no row.
with written as (
    delete from {prefix}records where kind = %(kind)s and key = %(key)s returning version
)
{TELL}
select version from written
