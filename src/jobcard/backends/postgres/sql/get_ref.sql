-- One job by its ref.
-- Only reads.
select {columns} from {prefix}jobs where n = %(ref)s
