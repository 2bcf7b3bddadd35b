-- What rises with every new job and every change that engines want to hear of.
-- Only reads.
select (select max(n) from {prefix}jobs), (select number from {prefix}meta where name = 'settings'),
       (select number from {prefix}meta where name = 'rings')
