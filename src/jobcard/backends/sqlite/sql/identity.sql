-- The random name this store got when it was made.
-- Only reads.
select value from {prefix}meta where key = 'identity'
