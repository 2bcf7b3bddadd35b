-- Lets the next migration of this store go on.
-- Safe at once with others: only who has the lock gives it back.
select pg_advisory_unlock(hashtext(%(name)s))
