-- Jobs of a filter in one queue, counted no further than a limit; {source} and {where} come from lookup.py.
-- Only reads.
select count(*) from (select 1 from {source} where {where} limit %(most)s) as found
