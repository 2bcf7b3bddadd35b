-- Records that jobs returned, each only if its claim still holds it.
-- Safe at once with others: by ref, state and token; no row changes when the claim was lost. Rows are locked along
-- their numbers. {result} and {started_ago} pick a job's own value by its number.
update {prefix}jobs
   set state = 'completed', result = {result}, started_at = {now} - {started_ago},
       finished_at = {now}, expires_at = {now} + keep,
       claimed_by = null, lease_until = null, cancel_requested = null, version = version + 1
 where n in (%(refs)s) and (n, claim_token) in (%(proofs)s) and state in ('claimed', 'running')
