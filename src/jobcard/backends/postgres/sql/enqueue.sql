-- Stores new jobs, due or delayed; which of them, if not all: an id or a unique key may be taken.
-- Safe at once with others: both keys are unique indexes, and whoever comes second waits and is told. The seal is read
-- by the statement itself; whoever sets it first locks the table against it.
with moment as (select {now} as now),
meta as (select seal from {prefix}meta),
new_queues as (
    select given.queue from unnest(%(queues)s) as given (queue) cross join meta
     where meta.seal is null
),
new_jobs as (
    select given.*, moment.now, coalesce(given.at, moment.now + given.delay) as due
      from unnest(
               %(id)s, %(queue)s, %(name)s, %(init)s, %(args)s, %(kwargs)s, %(priority)s, %(rank)s,
               %(order_offset)s, %(delay)s, %(at)s, %(max_attempts)s, %(max_crashes)s, %(backoff)s, %(timeout)s,
               %(keep)s, %(unique_key)s, %(limit_key)s, %(batch_id)s, %(parent_id)s, %(schedule_id)s, %(tags)s,
               %(meta)s
           ) with ordinality as given (
               id, queue, name, init, args, kwargs, priority, rank,
               order_offset, delay, at, max_attempts, max_crashes, backoff, timeout,
               keep, unique_key, limit_key, batch_id, parent_id, schedule_id, tags,
               meta, place
           ) cross join moment cross join meta as sealed
     where sealed.seal is null
)
{STORE}
select (select seal is not null from meta),
       case when (select count(*) from stored) < %(count)s then array(select id from stored) end
