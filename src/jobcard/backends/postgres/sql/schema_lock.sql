-- Lets one migration of this store at a time go on, until its transaction ends; so it works behind a pooler too.
-- Safe at once with others: that is what it is for.
select pg_advisory_xact_lock(%(key)s)
