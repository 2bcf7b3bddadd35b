-- Jobs that ended in one state and queue by slice of time, along the index.
-- Only reads.
select ended, (finished_at - %(first)s) {div} %(step)s as slice, count(*)
  from {prefix}jobs{along by_end}
 where ended = %(state)s and queue = %(queue)s and finished_at >= %(first)s and finished_at < %(end)s
 group by ended, slice
