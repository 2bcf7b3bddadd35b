-- The id so many places below another one.
-- Only reads.
select id from {prefix}jobs where id < %(before_id)s order by id desc limit 1 offset %(reach)s
