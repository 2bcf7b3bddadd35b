-- Tells running engines that queues or schedules changed.
-- Safe at once with others: it counts under the write lock of the change itself.
update {prefix}meta set value = value + 1 where key = 'settings'
