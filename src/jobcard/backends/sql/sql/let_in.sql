-- Puts jobs that were held by their limit keys back in line.
-- Safe at once with others: by number and state, under the turns of the keys; one that an operator has changed
-- meanwhile stays as it is.
update {prefix}jobs
   set hold = null, version = version + 1
 where n in (%(refs)s) and state = 'waiting' and hold = 'limit'
