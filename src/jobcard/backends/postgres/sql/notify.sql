-- Wakes the engines that listen on a channel.
-- A transaction of its own: it holds a lock of the whole server until it ends, which must not wait for a disk.
select pg_notify(%(channel)s, '')
