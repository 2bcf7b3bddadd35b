-- The random name this store got when it was made.
-- Only reads.
select identity from {prefix}meta
