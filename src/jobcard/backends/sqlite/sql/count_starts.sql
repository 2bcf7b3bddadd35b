-- Counts some starts of a queue or key in a slot. ?1 name, ?2 slot, ?3 how many, ?4 until when it counts.
-- Safe at once with others: under the write lock.
insert into {prefix}starts (name, slot, used, until) values (?1, ?2, ?3, ?4)
on conflict (name, slot) do update set used = used + excluded.used, until = max(until, excluded.until)
