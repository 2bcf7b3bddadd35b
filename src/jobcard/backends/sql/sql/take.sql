-- Gives the jobs that claim.sql has locked to their new owner, attempt and token raised.
-- Safe at once with others: the rows are locked. By number and nothing else, so that nothing else is.
update {prefix}jobs
   set state = 'claimed', attempt = attempt + 1, claim_token = claim_token + 1,
       claimed_by = %(owner)s, claimed_at = %(claimed_at)s, lease_until = %(lease_until)s, version = version + 1
 where n in (%(refs)s)
