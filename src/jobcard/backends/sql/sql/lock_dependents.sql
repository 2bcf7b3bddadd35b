-- Locks those of some jobs that wait for others, and says how they are by now.
-- Safe at once with others: whoever comes second waits, and then finds them under this hold no more. By id, as all who
-- change one such job: along the hold's own index a server locks its entry first, and who changes the job last.
select n, id, version from {prefix}jobs{along by_id} where id in (%(ids)s) and dependent is not null for update
