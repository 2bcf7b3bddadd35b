-- Keeps the record of one failed or interrupted try.
-- Runs in the transaction of the change that ended the try.
insert into {prefix}attempts (n, attempt, at, error) values (?1, ?2, ?3, ?4)
