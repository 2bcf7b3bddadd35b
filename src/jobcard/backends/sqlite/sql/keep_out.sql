-- Puts a job that was claimed a moment ago back: its key is at its limit. ?1 hold, ?2 due when, ?3 ref, ?4 token.
-- Safe at once with others: in the transaction of its claim.
update {prefix}jobs
   set state = 'waiting', hold = ?1, available_at = coalesce(?2, available_at), attempt = attempt - 1,
       claimed_by = null, claimed_at = null, lease_until = null
 where n = ?3 and claim_token = ?4
