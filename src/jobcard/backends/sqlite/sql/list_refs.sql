-- The refs of the same jobs, when one of them cannot be read.
-- Only reads.
select n from {prefix}jobs where {where} order by id desc limit ?
