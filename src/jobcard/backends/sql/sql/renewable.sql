-- Which of some claims may be held for longer, locked.
-- Safe at once with others: along the numbers; renew.sql follows under the same locks.
select n, claim_token, {now} from {prefix}jobs{along primary}
 where n in (%(refs)s) and (n, claim_token) in (%(proofs)s) and claimed_by = %(owner)s
   and lease_until > {now} and state in ('claimed', 'running')
 order by n
   for update
