-- Those of some jobs that exist.
-- Only reads.
select {columns} from {prefix}jobs as job where job.id in (%(ids)s)
