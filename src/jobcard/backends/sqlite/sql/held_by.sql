-- Claims of one owner, whole or only their refs.
-- Only reads; what is done with them is guarded by their tokens.
select {what} from {prefix}jobs
 where claimed_by is not null and claimed_by = ?1 and state in ('claimed', 'running')
 order by n
 limit ?2
