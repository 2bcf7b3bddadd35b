-- Gives a queue a record if it has none.
-- Safe at once with others: the key is unique, the second writer changes nothing.
insert into {prefix}records (kind, key, value, version, updated_at)
values ('queue', ?1, ?2, 1, ?3)
on conflict do nothing
