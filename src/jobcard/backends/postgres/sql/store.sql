-- Stores `new_jobs`; part of other statements.
-- Safe at once with others: ids and unique keys are unique indexes.
, stored as (
    insert into {prefix}jobs (
        id, queue, name, init, args, kwargs, priority, rank,
        available_at, order_at, order_offset, hold, created_at,
        max_attempts, max_crashes, backoff, timeout, keep,
        unique_key, once_key, limit_key, key_limit, rate_count, rate_per,
        batch_id, parent_id, schedule_id, tags, meta, waits_for
    )
    select id, queue, name, init, args, kwargs, priority, rank,
           due, due + order_offset, order_offset,
           case when waits_for is not null then 'after' when due > now then 'delay' end, now,
           max_attempts, max_crashes, backoff, timeout, keep,
           unique_key, once_key, limit_key, key_limit, rate_count, rate_per,
           batch_id, parent_id, schedule_id, tags, new_jobs.meta, waits_for
      from new_jobs
     order by place
        on conflict do nothing
    returning id
)
