-- Takes jobs that cannot be read out of the line, their bytes kept.
-- Safe at once with others: by ref and state. It touches no column that may be the damaged one.
update {prefix}jobs
   set hold = 'broken', reason = 'broken', claim_token = claim_token + 1, version = version + 1
 where n = any(%(refs)s) and state = 'waiting'
