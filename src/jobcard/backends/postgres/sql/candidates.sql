-- The refs of the jobs a claim of this queue would take.
-- Only reads; for the case that one of them is damaged.
select n from {prefix}jobs
 where queue = %(queue)s and state = 'waiting' and hold is null
 order by rank, order_at, id
 limit %(limit)s
