-- Writes a record only if there is none.
-- Safe at once with others: the key is unique; no row for the second writer.
with written as (
    insert into {prefix}records (kind, key, value, version, updated_at)
    values (%(kind)s, %(key)s, %(value)s, 1, {now})
        on conflict do nothing
    returning version
)
{TELL}
select version from written
