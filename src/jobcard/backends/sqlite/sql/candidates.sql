-- The refs of the jobs a claim of this queue would take.
-- Read under the write lock, when a claim met a row that cannot be read.
select n from {prefix}jobs
 where queue = ?1 and state = 'waiting' and hold is null
 order by rank, order_at, id
 limit ?2
