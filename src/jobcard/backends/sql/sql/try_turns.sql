-- Takes those of some turns that nobody has, until the transaction ends.
-- Safe at once with others: nobody waits, so the order does not matter.
select place from {prefix}turns{along primary} where place in (%(places)s) order by place for update skip locked
