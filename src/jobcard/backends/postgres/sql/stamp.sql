-- Stamps jobs that were claimed a moment ago with the instant at which their key's rate lets them start.
-- Safe at once with others: in the transaction of their claim, whose rows nobody else has seen.
update {prefix}jobs set claimed_at = %(at)s where n = any(%(refs)s)
