-- Records that a job returned, only if this claim still holds it.
-- Safe at once with others: by ref, state and token; no row changes when the claim was lost.
-- ?1 result, ?2 microseconds since its start, ?3 now, ?4 ref, ?5 token.
update {prefix}jobs
   set state = 'completed', result = ?1, started_at = ?3 - ?2, finished_at = ?3, expires_at = ?3 + keep,
       claimed_by = null, lease_until = null, cancel_requested = null, version = version + 1
 where n = ?4 and claim_token = ?5 and state in ('claimed', 'running')
