-- Keeps the records of tries that ended; part of the statement that applied the changes.
-- Safe at once with others: it sees only jobs that this statement has changed.
, tried as (
    insert into {prefix}attempts (n, attempt, at, error)
    select n, try_number, now, try_error from applied
)
