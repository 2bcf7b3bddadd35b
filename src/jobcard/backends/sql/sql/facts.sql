-- The schema, the random name this store got when it was made, the word it is sealed with, its size, the store's time,
-- and what the server is.
-- Only reads.
select (select number from {prefix}meta where name = 'schema'),
       (select word from {prefix}meta where name = 'identity'),
       (select word from {prefix}meta where name = 'seal'),
       {size},
       {now},
       {version}
