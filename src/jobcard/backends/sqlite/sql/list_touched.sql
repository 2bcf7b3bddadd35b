-- Jobs of a filter among those touched since an instant, newest id first, whole or only their refs.
-- Only reads; looks at no other jobs, whatever SQLite thinks of it.
select {what} from ({touched}) as touched cross join {prefix}jobs on n = touched.ref
 where {where}
 order by id desc
 limit ?
