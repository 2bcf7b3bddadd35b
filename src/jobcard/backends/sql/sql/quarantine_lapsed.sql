-- Takes unreadable jobs from holders whose lease has run out, and out of the line; their bytes are kept.
-- Safe at once with others: by ref, state and lease, so a job that was settled or renewed meanwhile stays as it is.
update {prefix}jobs
   set attempt = attempt - case when state = 'claimed' then 1 else 0 end,
       state = 'waiting', hold = 'broken', reason = 'broken',
       claimed_by = null, lease_until = null, claimed_at = null, started_at = null,
       claim_token = claim_token + 1, version = version + 1
 where n in (%(refs)s) and state in ('claimed', 'running') and lease_until <= {now}
