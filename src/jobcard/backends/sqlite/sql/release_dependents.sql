-- Puts a job that waited for others in line, or among the delayed ones, if it is as it was read: ?1 id, ?2 version.
-- Safe at once with others: one statement under the write lock; a job leaves the hold once. ?3 now.
update {prefix}jobs
   set hold = case when available_at > ?3 then 'delay' end, version = version + 1
 where id = ?1 and version = ?2 and state = 'waiting' and hold = 'after'
