-- Jobs of a filter in one state and queue, counted no further than a limit, a part of a union; {queue} is the place of
-- the queue in a list, {source} and {where} come from batches.py.
-- Only reads.
(select '{state}', {queue}, count(*) from (select 1 from {source} where {where} limit %(most)s) as found)
