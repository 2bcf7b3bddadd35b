-- How far the limits of queues and limit keys are used.
-- Only reads.
--
-- ARGV[1]  [now, queues, keys]
-- returns  [[at work, starts packed or false, how many a rate put off], …] of the queues, and of the keys

local of_queues, of_keys, limits = {}, {}, admission()
for place, queue in ipairs(input[2]) do
  of_queues[place] = { limits.queue_at_work(queue), redis.call('HGET', K_starts, limits.of_queue(queue)), 0 }
end
for place, key in ipairs(input[3]) do
  of_keys[place] = { limits.key_at_work(key), redis.call('HGET', K_starts, limits.of_key(key)), limits.put_off(key) }
end
return { of_queues, of_keys }
