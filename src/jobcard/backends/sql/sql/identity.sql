-- The random name this store got when it was made.
-- Only reads.
select word from {prefix}meta where name = 'identity'
