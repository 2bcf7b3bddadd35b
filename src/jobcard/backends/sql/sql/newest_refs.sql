-- Refs of the newest jobs of a filter in one queue and state of a batch, a part of a union; {source} and {where} come
-- from batches.py.
-- Only reads; along the index, which has them by id.
select n from (select job.n from {source} where {where} order by job.id desc limit %(limit)s) as newest
