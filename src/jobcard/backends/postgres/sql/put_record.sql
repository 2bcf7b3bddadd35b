-- Writes a record over whatever version is there.
-- Safe at once with others: one statement; the version counts every write.
with written as (
    insert into {prefix}records as record (kind, key, value, version, updated_at)
    values (%(kind)s, %(key)s, %(value)s, 1, {now})
    on conflict (kind, key) do update
       set value = excluded.value, version = record.version + 1, updated_at = excluded.updated_at
    returning version
)
{TELL}
select version from written
