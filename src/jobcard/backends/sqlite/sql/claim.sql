-- Takes the first waiting jobs of one queue for an owner, attempt and token raised.
-- Safe at once with others: select and update are one statement under the write lock.
-- RETURNING promises no order: the caller sorts. ?1 owner, ?2 now, ?3 lease end, ?4 queue, ?5 at most.
update {prefix}jobs
   set state = 'claimed', attempt = attempt + 1, claim_token = claim_token + 1,
       claimed_by = ?1, claimed_at = ?2, lease_until = ?3, version = version + 1
 where n in (
    select n from {prefix}jobs
     where queue = ?4 and state = 'waiting' and hold is null
     order by rank, order_at, id
     limit ?5
 )
returning {claimed_columns}
