-- Writes a record only if there is none.
-- Safe at once with others: the key is unique, and the second writer is told.
insert into {prefix}records (kind, "key", value, version, updated_at)
values (%(kind)s, %(key)s, %(value)s, 1, {now})
