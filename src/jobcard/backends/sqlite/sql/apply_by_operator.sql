-- Applies one change of an operator, whoever holds the job, if its state, and the version asked for, allow it.
-- Safe at once with others: both are checked in the statement that changes them.
update {prefix}jobs
   set {assignments}
 where {guard} and id = ?
returning n, {columns}
