-- Locks the job that an operator is about to change, and says how it stands.
-- Safe at once with others: whoever comes second waits.
select n, state, claim_token, version, lease_until from {prefix}jobs where id = %(id)s for update
