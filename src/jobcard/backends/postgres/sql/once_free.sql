-- The condition that no job, there or gone, has the once key of a new one; part of the statements that store jobs.
-- Safe at once with others: whoever takes these keys has their locks.
 and (
    given.once_key is null
    or not exists (
        select from {prefix}once as taken where taken.key = given.once_key and taken.until > moment.now
    )
 )
