-- Forgets some once keys whose time is over.
-- Safe at once with others: one statement under the write lock. ?1 now, ?2 at most.
delete from {prefix}once where key in (select key from {prefix}once where until <= ?1 limit ?2)
