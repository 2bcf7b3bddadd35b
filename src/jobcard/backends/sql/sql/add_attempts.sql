-- Keeps the records of tries that ended.
-- Runs in the transaction of the change that ended the try; whoever adds to a job has its row locked.
insert into {prefix}attempts (n, place, at, attempt, error) values %(rows)s
