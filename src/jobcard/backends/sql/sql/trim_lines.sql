-- Drops a job's oldest log lines: those up to a place, and those with too much text behind them.
-- Runs in the transaction that added some.
delete from {prefix}log_lines where n = %(ref)s and (place <= %(last)s or behind < %(text)s)
