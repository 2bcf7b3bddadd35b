-- Applies one change of an operator, whoever holds the job, if its state allows it.
-- Safe at once with others: state and hold are checked in the statement that changes them.
update {prefix}jobs
   set {assignments}
 where {guard} and id = ?
returning n, {columns}
