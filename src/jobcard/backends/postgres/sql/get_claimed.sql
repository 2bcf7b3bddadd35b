-- One claim by its ref.
-- Only reads; what is done with it is guarded by its token.
select {claimed_columns} from {prefix}jobs where n = %(ref)s
