-- The refs of one part of the table along its index; stands inside other statements.
-- Only reads; {source} and {where} come from lookup.py.
select job.n from {source} where {where}
