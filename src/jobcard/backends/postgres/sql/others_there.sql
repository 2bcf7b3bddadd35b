-- The condition that other jobs are there; part of the statement that stores a job beside them, or not yet.
-- Safe at once with others: in the transaction that stores those.
 and (select count(*) from {prefix}jobs as other where other.id = any(%(others)s)) = cardinality(%(others)s)
