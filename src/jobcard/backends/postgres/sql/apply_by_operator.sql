-- Applies one change of an operator, whoever holds the job, if its state, and the version asked for, allow it; the job after
-- it.
-- Safe at once with others: both are checked in the statement that changes them.
-- {assignments}, {guard} and {further} come from changes.py and hold only names and places for values.
with moment as (select {now} as now),
applied as (
    update {prefix}jobs as job
       set {assignments}
      from moment
     where {guard} and job.id = %(id)s
    returning job.*, moment.now{returned}
){further}
select {columns} from applied
