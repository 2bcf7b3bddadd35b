-- Jobs of a filter, newest id first, whole or only their refs; {where} comes from lookup.py.
-- Only reads; the filter holds only places for values.
select {what} from {prefix}jobs where {where} order by id desc limit ?
