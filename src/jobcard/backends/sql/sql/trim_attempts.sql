-- Keeps only the newest tries of a job.
-- Runs in the transaction that added one.
delete from {prefix}attempts where n = %(ref)s and place <= %(last)s
