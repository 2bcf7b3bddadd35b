-- Deletes every job and record; identity, seal and schema stay, and numbers are not given again.
-- Safe at once with others: it waits for them, and a holder then finds no row for its token.
truncate table {prefix}jobs, {prefix}attempts, {prefix}log_lines, {prefix}records, {prefix}once, {prefix}starts
