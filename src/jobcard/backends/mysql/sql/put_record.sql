-- Writes a record over whatever version is there.
-- Safe at once with others: one statement; the version counts every write.
insert into {prefix}records (kind, `key`, value, version, updated_at)
values (%(kind)s, %(key)s, %(value)s, 1, {now})
on duplicate key update value = values(value), version = version + 1, updated_at = values(updated_at)
