-- Frees once keys whose time is over, and those that these very jobs have, for whoever takes them next.
-- Safe at once with others: in the transaction that takes them.
delete from {prefix}once where "key" in (%(keys)s) and ("until" <= {now} or ("key", job_id) in (%(proofs)s))
