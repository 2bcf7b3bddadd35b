-- Puts a job that its limit key held back in line.
-- Safe at once with others: by its hold, under the write lock.
update {prefix}jobs set hold = null, version = version + 1 where n = ?1 and state = 'waiting' and hold = 'limit'
