-- Locks the jobs an exchange is about to change, in one order for everybody, so that engines do not deadlock.
-- Safe at once with others: whoever comes second waits.
select from {prefix}jobs where n = any(%(refs)s) order by n for no key update
