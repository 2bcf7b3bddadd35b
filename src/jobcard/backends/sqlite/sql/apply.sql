-- Applies one change of a holder, only if this claim still holds the job.
-- Safe at once with others: by ref, state and token; no row changes when the claim was lost.
update {prefix}jobs
   set {assignments}
 where {guard} and n = ? and claim_token = ?
