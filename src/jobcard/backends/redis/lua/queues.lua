-- Queues become known by the first job in them.

local known = {}
local function know(queue)
  if known[queue] then return end
  known[queue] = true
  if redis.call('HSETNX', K_records, 'queue' .. NUL .. queue, cmsgpack.pack({ '{}', 1, now })) == 1 then
    raise_settings()
  end
end
