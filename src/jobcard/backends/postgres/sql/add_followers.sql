-- Stores the jobs that follow changes; part of the statement that applied those, and that looked at the seal.
-- Safe at once with others: it sees only jobs that this statement has changed.
, new_queues as (
    select given.queue from unnest(%(queues)s) as given (queue)
     where exists (select from applied)
),
new_jobs as (
    select given.*, moment.now, coalesce(given.at, moment.now + given.delay) as due
      from unnest(
               %(id)s, %(queue)s, %(name)s, %(init)s, %(args)s, %(kwargs)s, %(priority)s, %(rank)s,
               %(order_offset)s, %(delay)s, %(at)s, %(max_attempts)s, %(max_crashes)s, %(backoff)s, %(timeout)s,
               %(keep)s, %(unique_key)s, %(limit_key)s, %(batch_id)s, %(parent_id)s, %(schedule_id)s, %(tags)s,
               %(meta)s, %(leaders)s
           ) with ordinality as given (
               id, queue, name, init, args, kwargs, priority, rank,
               order_offset, delay, at, max_attempts, max_crashes, backoff, timeout,
               keep, unique_key, limit_key, batch_id, parent_id, schedule_id, tags,
               meta, leader, place
           ) cross join moment
     where given.leader = any(array(select n from applied))
)
{STORE}
