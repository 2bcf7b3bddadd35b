-- Stores jobs that follow another; one whose id or unique key is taken is passed over, and who is there stays.
-- Safe at once with others: both keys are unique indexes, and whoever comes second waits.
insert into {prefix}jobs ({new_columns})
values %(rows)s
{or_skip}
