-- How the server keeps what it confirms, and which of its processes answers.
-- Only reads; needs no table of ours.
select current_setting('server_version'),
       current_setting('fsync'),
       current_setting('full_page_writes'),
       current_setting('synchronous_commit'),
       current_setting('synchronous_standby_names'),
       pg_is_in_recovery(),
       pg_backend_pid()
