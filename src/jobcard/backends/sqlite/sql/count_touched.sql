-- Jobs of a filter among those touched since an instant, by queue and state.
-- Only reads; looks at no other jobs, whatever SQLite thinks of it.
select queue, state, count(*) from ({touched}) as touched cross join {prefix}jobs on n = touched.ref
 where {where}
 group by queue, state
