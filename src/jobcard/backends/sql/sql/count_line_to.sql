-- Jobs of a filter in one queue and state of a batch, counted no further than a limit, a part of a union; {queue} is a
-- number that stands for the queue. {source} and {where} come from batches.py.
-- Only reads.
(select '{state}', {queue}, count(*) from (select 1 from {source} where {where} limit %(most)s) as found)
