-- The word that the store is sealed with; null while it is in use.
-- Only reads; it tells why nothing can be written, and what keeps writers out is the barrier.
select word from {prefix}meta where name = 'seal'
