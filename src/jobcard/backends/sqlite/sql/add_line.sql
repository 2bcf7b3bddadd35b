-- Keeps one log line of a job.
-- Runs in the transaction of the change that brought it, under the write lock: no place is given twice.
insert into {prefix}lines (n, place, before, at, text) values (?1, ?2, ?3, ?4, ?5)
