-- Puts jobs that were claimed a moment ago back in line as if nobody had touched them.
-- Safe at once with others: in the transaction of their claim, whose rows nobody else has seen; so their tokens, too,
-- are as they were.
update {prefix}jobs
   set state = 'waiting', attempt = attempt - 1, claim_token = claim_token - 1, version = version - 1,
       claimed_by = null, claimed_at = null, lease_until = null
 where n = any(%(refs)s)
