-- Forgets counted starts of which no window knows any more.
-- Safe at once with others: nobody reads them, and nobody adds to them.
delete from {prefix}starts where "until" <= {now} {some}
