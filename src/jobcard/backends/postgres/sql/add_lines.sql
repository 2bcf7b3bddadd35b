-- Keeps log lines; part of the statement that applied the changes.
-- Safe at once with others: it sees only jobs that this statement has changed.
, logged as (
    insert into {prefix}log_lines (n, at, text)
    select line.n, moment.now - line.ago, line.text
      from unnest(%(line_refs)s, %(line_ago)s, %(line_texts)s) with ordinality as line (n, ago, text, place)
           cross join moment
     where line.n = any(array(select n from applied))
     order by line.place
)
