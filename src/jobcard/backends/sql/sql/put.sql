-- Stores jobs as they are; none of them when an id or a unique key is taken.
-- Safe at once with others: both keys are unique indexes, and whoever comes second waits and is told.
insert into {prefix}jobs ({stored_columns})
values %(rows)s
