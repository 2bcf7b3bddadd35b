-- Takes jobs out of the line that cannot be read, claimed just now or not yet; their bytes are kept.
-- Safe at once with others: by ref, state and owner. It touches no column that may be the damaged one.
update {prefix}jobs
   set state = 'waiting', hold = 'broken', reason = 'broken',
       attempt = attempt - case when state = 'claimed' then 1 else 0 end,
       claim_token = claim_token + case when state = 'claimed' then 0 else 1 end,
       claimed_by = null, lease_until = null, claimed_at = null, version = version + 1
 where n = any(%(refs)s) and (state = 'waiting' or (state = 'claimed' and claimed_by = %(owner)s))
