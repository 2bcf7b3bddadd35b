-- Deletes the kept tries of a job.
-- Runs in the transaction that deletes the job.
delete from {prefix}attempts where n = ?1
