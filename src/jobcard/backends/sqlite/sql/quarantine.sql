-- Takes an unreadable job out of the line, its bytes kept.
-- Safe at once with others: by ref and state, under the write lock.
update {prefix}jobs
   set hold = 'broken', reason = 'broken', claim_token = claim_token + 1, version = version + 1
 where n = ?1 and state = 'waiting'
