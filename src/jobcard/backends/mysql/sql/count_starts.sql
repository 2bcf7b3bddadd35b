-- Counts starts of queues and keys in their slots.
-- Safe at once with others: one statement, and whoever counts has their turns.
insert into {prefix}starts (name, slot, used, `until`)
values %(rows)s
on duplicate key update used = used + values(used), `until` = greatest(`until`, values(`until`))
