-- Takes the lock of migrations until the end of the transaction, if nobody else has it; whether it did.
-- Safe at once with others: that is what it is for.
select pg_try_advisory_xact_lock(%(key)s)
