-- Writes a record over whatever version is there.
-- Safe at once with others: one statement; the version counts every write.
insert into {prefix}records (kind, "key", value, version, updated_at)
values (%(kind)s, %(key)s, %(value)s, 1, {now})
on conflict (kind, "key") do update
   set value = excluded.value, version = {prefix}records.version + 1, updated_at = excluded.updated_at
