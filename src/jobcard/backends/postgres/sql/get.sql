-- Those of some jobs that exist.
-- Only reads.
select {columns} from {prefix}jobs where id = any(%(ids)s)
