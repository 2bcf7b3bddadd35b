-- Puts jobs held by a limit key back in line, if they are among the first that wait with it. ?1 key, ?2 how many those are.
-- Safe at once with others: one statement under the write lock.
-- By two walks along the index of limited jobs: those in line already may be the first ones too, or stand behind.
update {prefix}jobs
   set hold = null, version = version + 1
 where hold = 'limit' and n in (
    select n from (
        select * from (
            select n, rank, order_at, id from {prefix}jobs
             where limit_key = ?1 and limit_key is not null and state = 'waiting' and hold is null
             order by rank, order_at, id limit ?2
        )
        union all
        select * from (
            select n, rank, order_at, id from {prefix}jobs
             where limit_key = ?1 and limit_key is not null and state = 'waiting' and hold = 'limit'
             order by rank, order_at, id limit ?2
        )
    )
    order by rank, order_at, id limit ?2
 )
