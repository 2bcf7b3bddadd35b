-- Lets one migration of this store at a time go on, until it is done or its connection ends.
-- Safe at once with others: that is what it is for. 1: we have it.
select 1 from pg_advisory_lock(hashtext(%(name)s))
