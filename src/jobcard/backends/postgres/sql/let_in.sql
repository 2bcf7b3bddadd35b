-- Puts the first jobs held by some limit keys back in line, as many as each key has room for; how many.
-- Safe at once with others: the caller has the locks of the keys. A job somebody else is changing is passed over.
with let_in as (
    update {prefix}jobs
       set hold = null, version = version + 1
     where n = any(array(
        select held.n
          from unnest(%(keys)s) as given (key)
               cross join lateral (
                   select key_limit from {prefix}jobs
                    where limit_key >= '' and limit_key = given.key and state = 'waiting' and hold = 'limit'
                    order by rank, order_at, id
                    limit 1
               ) as first
               cross join lateral (
                   select first.key_limit
                        - (select count(*) from {prefix}jobs
                            where limit_key >= '' and limit_key = given.key and state in ('claimed', 'running')
                              and hold is null)
                        - (select count(*) from (
                               select from {prefix}jobs
                                where limit_key >= '' and limit_key = given.key and state = 'waiting'
                                  and hold is null
                                limit first.key_limit + 1
                           ) as in_line) as jobs
               ) as room
               cross join lateral (
                   select n from {prefix}jobs
                    where limit_key >= '' and limit_key = given.key and state = 'waiting' and hold = 'limit'
                    order by rank, order_at, id
                    limit greatest(0, coalesce(room.jobs, 1000))
                      for no key update skip locked
               ) as held
         limit %(limit)s
     ))
    returning 1
)
select count(*) from let_in
