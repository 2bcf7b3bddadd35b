-- Writes a new job over the waiting job that has its key, which begins anew; if it still waited its id, and the limit
-- key with which it stood in line.
-- Safe at once with others: by id and state; a job that is not waiting stays as it is.
with moment as (select {now} as now),
new_job as (
    select given.*, moment.now, coalesce(given.at, moment.now + given.delay) as due
      from unnest({new_job_values}) as given ({new_job_columns})
           cross join moment
),
before as (
    select n, case when hold is null then limit_key end as left_key from {prefix}jobs
     where id = %(holder)s and state = 'waiting' and hold is distinct from 'broken'
       for no key update
)
update {prefix}jobs as job
   set queue = new_job.queue, name = new_job.name, init = new_job.init, args = new_job.args, kwargs = new_job.kwargs,
       priority = new_job.priority, rank = new_job.rank, available_at = new_job.due,
       order_at = new_job.due + new_job.order_offset, order_offset = new_job.order_offset,
       hold = case when new_job.waits_for is not null then 'after' when new_job.due > new_job.now then 'delay' end,
       max_attempts = new_job.max_attempts, max_crashes = new_job.max_crashes, backoff = new_job.backoff,
       timeout = new_job.timeout, keep = new_job.keep, limit_key = new_job.limit_key, key_limit = new_job.key_limit,
       rate_count = new_job.rate_count, rate_per = new_job.rate_per, batch_id = new_job.batch_id,
       parent_id = new_job.parent_id, schedule_id = new_job.schedule_id, tags = new_job.tags, meta = new_job.meta,
       waits_for = new_job.waits_for, version = job.version + 1,
       attempt = 0, crashes = 0, interrupts = 0, cancel_requested = null,
       error_kind = null, progress = null, checkpoint = null
  from new_job cross join before
 where job.n = before.n
returning job.id, before.left_key
