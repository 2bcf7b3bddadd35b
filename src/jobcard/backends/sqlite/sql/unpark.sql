-- Puts jobs parked under a name back in line where they were in it, or among the delayed ones.
-- Safe at once with others: one statement under the write lock. ?1 name, ?2 now.
update {prefix}jobs
   set hold = case when available_at > ?2 then 'delay' end, version = version + 1
 where state = 'waiting' and hold is not null and hold = 'parked' and name = ?1
