-- Stores one job, due or delayed; no row when its id or its unique key is taken.
-- Safe at once with others: both keys are unique indexes, and whoever commits second is told.
-- ?1..?30 are the fields of NewJob in order (?9 order_offset, ?10 delay, ?11 at, ?18..?20 once and replaces); ?31 is now.
insert into {prefix}jobs (
    id, queue, name, init, args, kwargs, priority, rank,
    available_at, order_at, order_offset, hold, created_at,
    max_attempts, max_crashes, backoff, timeout, keep,
    unique_key, once_key, limit_key, key_limit, rate_count, rate_per, batch_id, parent_id, schedule_id, tags, meta,
    waits_for
) values (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
    coalesce(?11, ?31 + ?10),
    coalesce(?11, ?31 + ?10) + ?9,
    ?9,
    case when ?30 is not null then 'after' when coalesce(?11, ?31 + ?10) > ?31 then 'delay' end,
    ?31,
    ?12, ?13, ?14, ?15, ?16,
    ?17, ?18, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30
) on conflict do nothing
