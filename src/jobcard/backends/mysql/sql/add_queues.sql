-- Gives some queues a record each; one that is there stays as it is, without the right to change any.
-- Safe at once with others: the key is unique. What `ignore` would cut here is refused by the job stored along with it.
insert ignore into {prefix}records (kind, `key`, value, version, updated_at)
values %(rows)s
