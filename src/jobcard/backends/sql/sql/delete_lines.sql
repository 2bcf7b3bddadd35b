-- Deletes the log lines of some jobs.
-- Runs in the transaction that deletes the jobs.
delete from {prefix}log_lines where n in (%(refs)s)
