-- Writes a record only if there is none.
-- Safe at once with others: the key is unique; no row for the second writer.
insert into {prefix}records (kind, key, value, version, updated_at)
values (?1, ?2, ?3, 1, ?4)
on conflict do nothing
returning version
