-- Claims of anybody whose lease has run out, whole or only their refs; walks all claims, which are few.
-- Only reads; what is done with them is guarded by their tokens.
select {what} from {prefix}jobs
 where claimed_by is not null and lease_until <= ?1 and state in ('claimed', 'running')
 limit ?2
