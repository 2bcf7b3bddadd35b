-- Gives some queues a record each; one that has come meanwhile stays as it is.
-- Safe at once with others: the key is unique, the second writer changes nothing.
insert into {prefix}records (kind, "key", value, version, updated_at)
values %(rows)s
{or_skip}
