-- Lets this transaction write to a sealed store: it is a migration.
-- Safe at once with others: it holds for this transaction alone.
select set_config('jobcard.migrating', 'on', true)
