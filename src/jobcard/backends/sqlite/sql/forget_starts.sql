-- Forgets counted starts of which no window knows any more.
-- Safe at once with others: one statement under the write lock. ?1 now.
delete from {prefix}starts where until <= ?1
