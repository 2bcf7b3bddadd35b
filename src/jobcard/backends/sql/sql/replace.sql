-- Writes what a new job is to do over a waiting job that has its key.
-- Safe at once with others: by id and state; a job that has begun meanwhile stays as it is.
update {prefix}jobs
   set {replacing}, version = version + 1
 where id = %(existing)s and state = 'waiting' and (hold is null or hold <> 'broken')
