-- Stores one job, due or delayed; no row when its id or its unique key is taken.
-- Safe at once with others: both keys are unique indexes, and whoever commits second is told.
-- ?1..?23 are the fields of NewJob in order (?9 order_offset, ?10 delay, ?11 at); ?24 is now.
insert into {prefix}jobs (
    id, queue, name, init, args, kwargs, priority, rank,
    available_at, order_at, hold, created_at,
    max_attempts, max_crashes, backoff, timeout, keep,
    unique_key, limit_key, batch_id, parent_id, schedule_id, tags, meta
) values (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
    coalesce(?11, ?24 + ?10),
    coalesce(?11, ?24 + ?10) + ?9,
    case when coalesce(?11, ?24 + ?10) > ?24 then 'delay' end,
    ?24,
    ?12, ?13, ?14, ?15, ?16,
    ?17, ?18, ?19, ?20, ?21, ?22, ?23
) on conflict do nothing
