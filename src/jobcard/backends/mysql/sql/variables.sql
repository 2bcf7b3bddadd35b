-- What the server is told about keeping what it confirmed; those it does not know are missing.
-- Only reads.
show global variables where variable_name in (%(names)s)
