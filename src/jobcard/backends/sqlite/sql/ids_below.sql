-- The id so many places below another one.
-- Only reads.
select id from {prefix}jobs where id < ?1 order by id desc limit 1 offset ?2
