-- Sees to it that the first jobs with some limit keys are in line, as many as each key has room for; how many came in.
-- Safe at once with others: the caller has the locks of the keys. A job somebody else is changing is passed over.
-- By two walks along the index of limited jobs: those in line already may be the first ones, too, or stand behind.
with let_in as (
    update {prefix}jobs
       set hold = null, version = version + 1
     where n = any(array(
        select n from {prefix}jobs
         where n = any(array(
            select among.n
              from unnest(%(keys)s) as given (key)
                   cross join lateral (
                       select key_limit from {prefix}jobs
                        where limit_key >= '' and limit_key = given.key and state = 'waiting' and hold = 'limit'
                        order by rank, order_at, id
                        limit 1
                   ) as first
                   cross join lateral (
                       select greatest(0, first.key_limit - count(*)) as jobs from {prefix}jobs
                        where limit_key >= '' and limit_key = given.key and state in ('claimed', 'running')
                          and hold is null
                   ) as room
                   cross join lateral (
                       select * from (
                           (select n, hold, rank, order_at, id from {prefix}jobs
                             where limit_key >= '' and limit_key = given.key and state = 'waiting' and hold is null
                             order by hold, rank, order_at, id limit room.jobs)
                           union all
                           (select n, hold, rank, order_at, id from {prefix}jobs
                             where limit_key >= '' and limit_key = given.key and state = 'waiting' and hold = 'limit'
                             order by rank, order_at, id limit room.jobs)
                       ) as both_walks
                       order by rank, order_at, id
                       limit room.jobs
                   ) as among
             where among.hold = 'limit'
             limit %(limit)s
         )) and hold is not distinct from 'limit'
           for no key update skip locked
     ))
    returning 1
)
select count(*) from let_in
