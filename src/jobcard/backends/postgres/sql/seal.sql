-- The word that the store is sealed with; null: it is in use.
-- Only reads; what keeps writers out is the barrier.
select seal from {prefix}meta
