-- The version of the schema.
-- Only reads; whoever migrates reads it again under the write lock.
select value from {prefix}meta where key = 'schema'
