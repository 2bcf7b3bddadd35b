-- Holds a claim for longer, unless it was lost or its lease has run out.
-- Safe at once with others: by ref, token, owner and lease in one statement.
-- ?1 new lease end, ?2 ref, ?3 token, ?4 owner, ?5 now.
update {prefix}jobs
   set lease_until = ?1
 where n = ?2 and claim_token = ?3 and claimed_by = ?4 and lease_until > ?5 and state in ('claimed', 'running')
