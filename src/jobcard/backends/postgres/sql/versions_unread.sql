-- Jobs with their refs and versions by ascending id, above one, whatever their texts are like.
-- Only reads.
select id, version, n from {prefix}jobs where id > %(after)s order by id limit %(limit)s
