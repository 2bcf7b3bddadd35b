-- Refs of jobs of one queue that ended in one state before an instant, locked.
-- Safe at once with others: a job somebody else is deleting is passed over.
select n from {prefix}jobs{along by_end}
 where ended = %(state)s and queue = %(queue)s and finished_at < %(before)s and (%(kept)s or keep is null)
 limit %(limit)s
   for update skip locked
