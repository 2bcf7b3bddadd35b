-- Takes those locks of some names that nobody else has, until the end of the transaction; the names it got.
-- Safe at once with others: it waits for nobody, so it may come after other locks. The numbers are those of lock_names.
select name from unnest(%(names)s) as given (name)
 where pg_try_advisory_xact_lock(hashtextextended(name, '{prefix}jobs'::regclass::oid::bigint))
