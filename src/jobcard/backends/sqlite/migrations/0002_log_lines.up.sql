-- Log lines of jobs, and the way to the jobs that wait since an instant.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.

-- Stored job by job, so that the lines of one are read, cut and deleted in one place. `before`: how many characters
-- of the job's lines stand before this one.
create table {prefix}lines (
    n integer not null,
    place integer not null,
    before integer not null,
    at integer not null,
    text text not null,
    primary key (n, place)
) strict, without rowid;

-- "Touched since" and charts ask who was created after an instant. Jobs at work are few and are all looked at; jobs
-- that ended are found by their end, which is no earlier; so only waiting jobs need an index by `created_at`. Neither
-- `id` nor `n` would do instead: users give ids, and clocks step. Measured: half a microsecond for each job's way
-- through the store. An index over all jobs costs half of that, but grows with the history, and charts would have to
-- look at every job of it to find those that wait.
create index {prefix}jobs_created on {prefix}jobs (created_at)
    where state = 'waiting';
