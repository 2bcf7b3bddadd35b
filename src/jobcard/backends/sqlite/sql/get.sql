-- One job.
-- Only reads.
select {columns} from {prefix}jobs where id = ?1
