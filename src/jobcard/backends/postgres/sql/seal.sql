-- Whether this store is sealed, its jobs having moved.
-- Only reads.
select seal is not null from {prefix}meta
