-- Locks the jobs an exchange is about to change, in one order for everybody, and says how they stand.
-- Safe at once with others: whoever comes second waits.
select n, state, claim_token, version, lease_until from {prefix}jobs{along primary}
 where n in (%(refs)s) order by n for update
