-- Deletes some jobs in whatever state they are, with all that belongs to them; how many.
-- Safe at once with others: their rows are locked in one order; a holder then finds no row for its token.
with doomed as (
    select n from {prefix}jobs where id = any(%(ids)s) order by n for update
)
{DELETE_DOOMED}
