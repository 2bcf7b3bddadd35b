-- Keeps only the newest log lines of some jobs: so many, and so many characters.
-- Runs in the transaction that added some; whoever adds to a job has its row locked.
delete from {prefix}log_lines as line
 using (
    select n, max(place) as last
      from (
        select n, place,
               row_number() over newest_first as line_number,
               sum(length(text)) over newest_first as characters
          from {prefix}log_lines
         where n = any(%(refs)s)
        window newest_first as (partition by n order by place desc)
      ) as counted
     where line_number > %(keep)s or characters > %(characters)s
     group by n
 ) as old
 where line.n = old.n and line.place <= old.last
