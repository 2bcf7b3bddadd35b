-- Those of the tables that a seal closes that are there; all but `meta`, where the seal itself stands.
-- Read under the write lock by whoever raises or lowers the barrier.
select name from sqlite_schema
 where type = 'table' and name in
       ('{prefix}jobs', '{prefix}attempts', '{prefix}lines', '{prefix}once', '{prefix}starts', '{prefix}records')
