-- Takes a job out of the line: its key is at its limit. ?1 hold, ?2 due when, ?3 ref.
-- Safe at once with others: by its place in line, under the write lock.
update {prefix}jobs
   set hold = ?1, available_at = coalesce(?2, available_at), version = version + 1
 where n = ?3 and state = 'waiting' and hold is null
