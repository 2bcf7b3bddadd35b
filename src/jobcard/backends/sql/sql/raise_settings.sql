-- Tells running engines that queues, schedules or orders changed.
-- Safe at once with others: it counts under the lock of the row, in the transaction of the change itself.
update {prefix}meta set number = number + 1 where name = 'settings'
