-- The refs and ids of the jobs of a filter, when one of them cannot be read; {where} holds only places for values.
-- Only reads.
select n, id from {prefix}jobs where {where} order by id desc limit %(limit)s
