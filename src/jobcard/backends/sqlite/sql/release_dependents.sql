-- Puts a job that waited for others in line, or among the delayed ones.
-- Safe at once with others: one statement under the write lock; a job leaves the hold once. ?1 id, ?2 now.
update {prefix}jobs
   set hold = case when available_at > ?2 then 'delay' end, version = version + 1
 where id = ?1 and state = 'waiting' and hold = 'after'
