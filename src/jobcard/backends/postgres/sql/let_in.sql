-- Puts the first held jobs of some limit keys in line, and of those that some jobs have; how many came in. In each queue
-- a job comes in if fewer of its key stand before it than its own limit leaves beside those at work; the first one that
-- may not ends the walk.
-- Safe at once with others: the caller has the locks of the keys. A job somebody else is changing is passed over.
-- From job to job along the index of limited jobs: those in line are only counted, and no further than they matter.
with recursive keys (key, at_work) as (
    select given.key,
           (select count(*) from {prefix}jobs
             where limit_key >= '' and limit_key = given.key and state in ('claimed', 'running') and hold is null)
      from (
        select unnest(%(keys)s) collate "C" as key
         union
        select limit_key from {prefix}jobs where id = any(%(ids)s) and limit_key is not null
      ) as given
),
lines (key, at_work, queue) as (
    select key, at_work,
           (select min(queue) from {prefix}jobs
             where limit_key >= '' and limit_key = keys.key and state = 'waiting' and hold = 'limit')
      from keys
    union all
    select key, at_work,
           (select min(queue) from {prefix}jobs
             where limit_key >= '' and limit_key = lines.key and state = 'waiting' and hold = 'limit'
               and queue > lines.queue)
      from lines where queue is not null
),
walk (key, at_work, queue, step, place, comes_in, n, rank, order_at, id) as (
    select key, at_work, queue, 0, 0::bigint, true, null::bigint,
           (-1 << 31)::integer, -1::bigint << 63, '00000000-0000-0000-0000-000000000000'::uuid
      from lines where queue is not null
    union all
    select walk.key, walk.at_work, walk.queue, walk.step + 1, walk.place + before.jobs + 1,
           held.key_limit is null or walk.place + before.jobs < held.key_limit - walk.at_work,
           held.n, held.rank, held.order_at, held.id
      from walk
           cross join lateral (
               select n, rank, order_at, id, key_limit from {prefix}jobs as job
                where limit_key >= '' and limit_key = walk.key and state = 'waiting' and hold = 'limit'
                  and queue = walk.queue
                  and (job.rank, job.order_at, job.id) > (walk.rank, walk.order_at, walk.id)
                order by job.rank, job.order_at, job.id
                limit 1
           ) as held
           cross join lateral (
               select count(*) as jobs from (
                   select from {prefix}jobs as job
                    where limit_key >= '' and limit_key = walk.key and state = 'waiting' and hold is null
                      and queue = walk.queue
                      and (job.rank, job.order_at, job.id) > (walk.rank, walk.order_at, walk.id)
                      and (job.rank, job.order_at, job.id) < (held.rank, held.order_at, held.id)
                    limit greatest(0, held.key_limit - walk.at_work - walk.place)
               ) as those
           ) as before
     where walk.comes_in and walk.step < {released_at_once}
),
let_in as (
    update {prefix}jobs
       set hold = null, version = version + 1
     where n = any(array(
        select n from {prefix}jobs
         where n = any(array(select n from walk where step > 0 and comes_in limit %(limit)s))
           and hold is not distinct from 'limit'
           for no key update skip locked
     ))
    returning 1
)
select count(*) from let_in
