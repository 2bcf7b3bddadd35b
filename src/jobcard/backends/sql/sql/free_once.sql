-- Frees once keys whose time is over, for whoever takes them next.
-- Safe at once with others: in the transaction that takes them.
delete from {prefix}once where "key" in (%(keys)s) and "until" <= {now}
