-- Refs of jobs that ended in one state and queue at an instant or later; stands inside other statements.
-- Only reads. {state} and {queue} name places for values: joined with a list of them the server walks all that ended.
select n from {prefix}jobs{along by_end}
 where ended = %({state})s and queue = %({queue})s and finished_at >= %(touched_since)s
