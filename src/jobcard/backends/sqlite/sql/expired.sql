-- Refs of jobs in one state whose own keep has run out.
-- Read under the write lock by whoever deletes them. ?1 state, ?2 now, ?3 at most.
select n from {prefix}jobs
 where expires_at is not null and expires_at <= ?2 and state = ?1
 order by expires_at
 limit ?3
