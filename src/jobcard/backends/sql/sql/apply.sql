-- Applies one change to a job whose row is locked, and which was found to be as the change expects.
-- Safe at once with others: by ref, under the lock of its row.
-- {assignments} comes from changes.py and holds only names and places for values.
update {prefix}jobs
   set {assignments}
 where n = %(ref)s
