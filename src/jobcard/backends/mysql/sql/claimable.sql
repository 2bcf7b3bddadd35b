-- Which of some queues have a job to claim; {wanted} is a list of them.
-- A look without locks; whoever claims looks again.
select wanted.queue from ({wanted}) as wanted
 where exists (select 1 from {prefix}jobs force index (by_line) where line = wanted.queue)
