-- Takes the turns of some limited queues and keys, until the transaction ends.
-- Safe at once with others: whoever comes second waits. Everybody waits in ascending order, and only for turns above
-- those that he has, so nobody waits in a ring.
select place from {prefix}turns{along primary} where place in (%(places)s) order by place for update
