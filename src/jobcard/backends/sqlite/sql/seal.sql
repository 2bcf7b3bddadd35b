-- Where the jobs of this store have moved to; null while it is in use.
-- Read under the write lock by whoever adds jobs, so none slips in behind the seal.
select value from {prefix}meta where key = 'seal'
