-- Writes a job as it is, in place of the one with its id; an error where another living job has its unique key.
-- Safe at once with others: one statement under the write lock. Its ref stays, so nothing of it has to be written anew.
insert into {prefix}jobs ({columns}) values ({values})
on conflict (id) do update set {overwritten}
