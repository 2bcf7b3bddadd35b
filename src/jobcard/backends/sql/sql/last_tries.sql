-- The last place of the kept tries of some jobs.
-- Runs in the transaction that adds the next; whoever adds to a job has its row locked.
select n, max(place) from {prefix}attempts where n in (%(refs)s) group by n
