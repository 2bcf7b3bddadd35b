-- Waits for the locks of others no longer than this, until the end of the transaction.
-- Safe at once with others: it is a setting of this transaction alone.
select set_config('lock_timeout', %(milliseconds)s, true)
