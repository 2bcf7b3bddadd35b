-- Records the version of the schema.
-- Runs in the transaction of the migration itself.
insert into {prefix}meta (key, value) values ('schema', ?1)
on conflict (key) do update set value = ?1
