-- Takes jobs out of the line that cannot be read; their bytes are kept.
-- Safe at once with others: their rows are locked by the claim that met them.
update {prefix}jobs
   set hold = 'broken', reason = 'broken', claim_token = claim_token + 1, version = version + 1
 where n in (%(refs)s) and state = 'waiting'
