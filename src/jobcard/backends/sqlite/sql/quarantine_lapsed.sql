-- Takes an unreadable job from a holder whose lease has run out, and out of the line; its bytes are kept.
-- Safe at once with others: by ref, state and lease, so a job that was settled or renewed meanwhile stays as it is.
-- ?1 ref, ?2 now.
update {prefix}jobs
   set state = 'waiting', hold = 'broken', reason = 'broken', claimed_by = null, lease_until = null,
       claimed_at = null, started_at = null, attempt = attempt - (state = 'claimed'),
       claim_token = claim_token + 1, version = version + 1
 where n = ?1 and state in ('claimed', 'running') and lease_until <= ?2
