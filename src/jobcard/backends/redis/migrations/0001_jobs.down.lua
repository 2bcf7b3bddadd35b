-- Takes every key away, and the jobs in them.

for place = 1, #KEYS do redis.call('UNLINK', KEYS[place]) end
