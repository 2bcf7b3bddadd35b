-- Jobs by state and slice of time, each at its latest stamp; {stamps} comes from lookup.py.
-- Only reads.
select state, (stamp - %(first)s) / %(step)s as slice, count(*) from ({stamps}) as stamps
 where stamp >= %(first)s and stamp < %(end)s and state = any(%(wanted)s)
 group by state, slice
