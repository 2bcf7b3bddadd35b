-- Where the jobs of this store have moved to; null while it is in use.
-- Whoever adds jobs holds this row until its transaction ends, beside others who do; whoever seals waits for them.
select word from {prefix}meta where name = 'seal' {for_share}
