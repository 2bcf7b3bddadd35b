-- Those of some jobs that exist.
-- Only reads.
select {columns} from {prefix}jobs where id in ({marks})
