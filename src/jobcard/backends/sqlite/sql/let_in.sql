-- Puts the first jobs held by a limit key back in line. ?1 key, ?2 at most.
-- Safe at once with others: one statement under the write lock.
update {prefix}jobs
   set hold = null, version = version + 1
 where n in (
    select n from {prefix}jobs
     where limit_key = ?1 and limit_key is not null and state = 'waiting' and hold = 'limit'
     order by rank, order_at, id
     limit ?2
 )
