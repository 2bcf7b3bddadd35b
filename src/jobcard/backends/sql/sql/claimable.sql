-- Which of some queues have a job to claim; {wanted} is a list of them.
-- A look without locks; whoever claims looks again. Not by `exists`: MariaDB makes a join of it that walks the index.
select wanted.queue from ({wanted}) as wanted
 where (select 1 from {prefix}jobs{along by_line} where line = wanted.queue limit 1) = 1
