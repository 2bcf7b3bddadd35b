-- How many connections the server has.
-- Only reads.
show global status where variable_name = 'Threads_connected'
