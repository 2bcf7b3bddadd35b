-- Wakes whoever waits for jobs: an operator has put one in line.
-- Safe at once with others: it counts under the lock of the row.
update {prefix}meta set number = number + 1 where name = 'rings'
