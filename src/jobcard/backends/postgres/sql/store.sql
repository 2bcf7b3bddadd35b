-- Stores `new_jobs`, and gives each of `new_queues` a record if it has none; part of other statements.
-- Safe at once with others: ids, unique keys and records' keys are unique indexes.
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
),
stored as (
    insert into {prefix}jobs (
        id, queue, name, init, args, kwargs, priority, rank,
        available_at, order_at, order_offset, hold, created_at,
        max_attempts, max_crashes, backoff, timeout, keep,
        unique_key, once_key, limit_key, key_limit, rate_count, rate_per,
        batch_id, parent_id, schedule_id, tags, meta
    )
    select id, queue, name, init, args, kwargs, priority, rank,
           due, due + order_offset, order_offset, case when due > now then 'delay' end, now,
           max_attempts, max_crashes, backoff, timeout, keep,
           unique_key, once_key, limit_key, key_limit, rate_count, rate_per,
           batch_id, parent_id, schedule_id, tags, new_jobs.meta
      from new_jobs
     order by place
        on conflict do nothing
    returning id
)
