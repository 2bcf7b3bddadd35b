-- Holds claims for longer.
-- Safe at once with others: renewable.sql has locked them and found them held, their leases not yet run out.
update {prefix}jobs set lease_until = %(lease_until)s where n in (%(refs)s)
