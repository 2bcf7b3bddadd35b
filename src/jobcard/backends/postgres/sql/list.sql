-- Jobs of a filter, newest id first; {where} comes from lookup.py and holds only places for values.
-- Only reads.
select {columns} from {prefix}jobs where {where} order by id desc limit %(limit)s
