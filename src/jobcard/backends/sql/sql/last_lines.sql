-- The newest log line of some jobs: its place, and how many characters there are up to its end.
-- Runs in the transaction that adds the next; whoever adds to a job has its row locked.
select line.n, line.place, line.behind + char_length(line.text)
  from (select n, max(place) as place from {prefix}log_lines where n in (%(refs)s) group by n) as newest
       {join} {prefix}log_lines as line{along primary}
       on line.n = newest.n and line.place = newest.place
