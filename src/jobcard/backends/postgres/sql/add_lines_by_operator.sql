-- Keeps log lines of one job; part of the statement that applied the change.
-- Safe at once with others: it sees only the job that this statement has changed.
, logged as (
    insert into {prefix}log_lines (n, at, text)
    select applied.n, applied.now - line.ago, line.text
      from applied cross join unnest(%(line_ago)s, %(line_texts)s) with ordinality as line (ago, text, place)
     order by line.place
)
