-- Writes jobs as they are, and gives each of their queues a record; which of them, if not all: an id or a unique key may
-- be taken.
-- Safe at once with others: ids and unique keys are unique indexes. What was there under these ids is gone by now, in the
-- same transaction.
with moment as (select {now} as now),
new_queues as (
    select given.queue from unnest(%(queues)s) as given (queue)
)
{ADD_QUEUES},
written as (
    insert into {prefix}jobs ({columns})
    select {columns} from unnest({job_values}) with ordinality as given ({columns}, place)
     order by place
        on conflict do nothing
    returning id
)
select case when (select count(*) from written) < %(count)s then array(select id from written) end
