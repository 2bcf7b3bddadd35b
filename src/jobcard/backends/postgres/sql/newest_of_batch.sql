-- The ids of the newest jobs of a filter that names a batch; stands inside a condition.
-- Only reads. `offset 0` keeps it to the index of batches: down all ids it might meet millions of others first.
select id from (select id from {prefix}jobs where {where} offset 0) as found order by id desc limit %(limit)s
