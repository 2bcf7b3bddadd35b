-- Gives each of `new_queues` a record if it has none; part of other statements.
-- Safe at once with others: the key is unique, and whoever comes second adds none.
, added as (
    insert into {prefix}records (kind, key, value, version, updated_at)
    select 'queue', queue, '{}', 1, moment.now from new_queues cross join moment
     where not exists (select from {prefix}records where kind = 'queue' and key = new_queues.queue)
     order by queue
        on conflict do nothing
    returning key
),
told as (
    update {prefix}meta set settings = settings + 1 where exists (select from added)
)
