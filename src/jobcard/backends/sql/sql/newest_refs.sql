-- Refs of the newest jobs of a filter; stands inside other statements. {source} and {where} come from lookup.py.
-- Only reads. Only refs are sorted: with whole jobs it would take ten times as long.
select job.n from {source} where {where} order by job.id desc limit %(limit)s
