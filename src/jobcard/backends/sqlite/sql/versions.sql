-- Jobs by ascending id above ?1, whole or only id and version. ?2 at most.
-- Only reads; along the index of ids.
select {what} from {prefix}jobs where id > ?1 order by id limit ?2
