-- Writes a record over whatever version is there.
-- Safe at once with others: one statement; the version counts every write.
insert into {prefix}records (kind, key, value, version, updated_at)
values (?1, ?2, ?3, 1, ?4)
on conflict (kind, key) do update set value = ?3, version = version + 1, updated_at = ?4
returning version
