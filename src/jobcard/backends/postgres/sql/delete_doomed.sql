-- Deletes the jobs of `doomed` with all that belongs to them, and counts them; part of other statements.
-- Safe at once with others: their rows are locked by then.
, attempts as (
    delete from {prefix}attempts where n = any(array(select n from doomed))
),
log_lines as (
    delete from {prefix}log_lines where n = any(array(select n from doomed))
),
gone as (
    delete from {prefix}jobs where n = any(array(select n from doomed)) returning 1
)
select count(*) from gone
