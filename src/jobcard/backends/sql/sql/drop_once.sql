-- Frees once keys whoever has them, for those that are put in their place.
-- Safe at once with others: in the transaction that puts them.
delete from {prefix}once where "key" in (%(keys)s)
