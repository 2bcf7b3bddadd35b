-- Deletes some thousand rows of {prefix}records; not by `truncate`, which gives numbers again that are refs of old claims.
-- Safe at once with others: it waits for them, and a holder then finds no row for its token.
delete from {prefix}records {some}
