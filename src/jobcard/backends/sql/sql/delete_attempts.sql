-- Deletes the kept tries of some jobs.
-- Runs in the transaction that deletes the jobs.
delete from {prefix}attempts where n in (%(refs)s)
