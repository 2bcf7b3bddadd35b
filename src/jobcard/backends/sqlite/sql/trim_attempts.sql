-- Keeps only the newest tries of a job.
-- Runs in the transaction that added one.
delete from {prefix}attempts
 where n = ?1 and place <= (
    select place from {prefix}attempts where n = ?1 order by place desc limit 1 offset ?2
 )
