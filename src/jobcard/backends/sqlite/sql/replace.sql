-- Writes the content of a new job over the waiting job that has its key: ?32 its id.
-- Safe at once with others: by id and state, under the write lock; a job that is not waiting stays as it is.
-- ?1..?31 as at enqueue.
update {prefix}jobs
   set queue = ?2, name = ?3, init = ?4, args = ?5, kwargs = ?6, priority = ?7, rank = ?8,
       available_at = coalesce(?11, ?31 + ?10), order_at = coalesce(?11, ?31 + ?10) + ?9,
       order_offset = ?9,
       hold = case when ?30 is not null then 'after' when coalesce(?11, ?31 + ?10) > ?31 then 'delay' end,
       max_attempts = ?12, max_crashes = ?13, backoff = ?14, timeout = ?15, keep = ?16,
       limit_key = ?21, key_limit = ?22, rate_count = ?23, rate_per = ?24,
       batch_id = ?25, parent_id = ?26, schedule_id = ?27, tags = ?28, meta = ?29, waits_for = ?30,
       version = version + 1,
       attempt = 0, crashes = 0, interrupts = 0, cancel_requested = null,
       error_kind = null, progress = null, checkpoint = null
 where id = ?32 and state = 'waiting' and hold is not 'broken'
