-- Jobs of a filter in one state by queue, a part of a union; {source} and {where} come from lookup.py and hold only
-- places for values.
-- Only reads.
(select '{state}', job.queue, count(*) from {source} where {where} group by job.queue)
