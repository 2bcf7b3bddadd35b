-- Counts starts of queues and keys in their slots.
-- Safe at once with others: one statement, and whoever counts has their turns.
insert into {prefix}starts (name, slot, used, "until")
values %(rows)s
on conflict (name, slot) do update
   set used = {prefix}starts.used + excluded.used, "until" = greatest({prefix}starts."until", excluded."until")
