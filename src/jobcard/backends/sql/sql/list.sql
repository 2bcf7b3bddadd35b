-- Jobs of a filter, newest id first; {source} and {where} come from lookup.py and hold only places for values.
-- Only reads.
select {columns} from {source} where {where} order by job.id desc limit %(limit)s
