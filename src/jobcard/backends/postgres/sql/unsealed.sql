-- Lets a change apply only while the store is not sealed; part of other statements.
-- Safe at once with others: whoever seals the store first locks the table against the statement.
and not exists (select from {prefix}meta where seal is not null)
