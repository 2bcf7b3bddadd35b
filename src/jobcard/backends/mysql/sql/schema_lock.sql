-- Lets one migration of this store at a time go on, until it is done or its connection ends.
-- Safe at once with others: that is what it is for. 1: we have it.
select get_lock(%(name)s, 60)
