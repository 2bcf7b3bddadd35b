-- Deletes the log lines of a job.
-- Runs in the transaction that deletes the job.
delete from {prefix}lines where n = ?1
