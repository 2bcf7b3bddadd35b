-- Limits over all engines: who of a line may start, and who comes in when one has left.
-- Safe at once with others: no other command runs in between.
--
-- The rules of rates are those of core/rates.py, where they stand in words, with the same names: `Rate.slot_at`,
-- `Starts.room`, `Starts.free_at`, `admit`. A test compares the answers of both.
--
-- rate     [most, per]
-- starts   [[slot, how many, of no use from this instant on], …], by slot

-- Jobs that came in and are not claimed yet, by id.
local came_in = {}

-- Made when it is first needed: a script pays for each of its functions whenever it runs, and most know no limit.
local function new_admission()
  local function slot_of(rate) return math.ceil(rate[2] / SLOTS) end
  local function slot_at(rate) return (now - math.fmod(now, slot_of(rate))) / slot_of(rate) end

  -- Those far behind and far ahead of now were counted when the window was another one.
  local function counts(start, rate) return math.abs(start[1] - slot_at(rate)) <= SLOTS end

  -- How many more than the rate allows have started.
  local function excess(starts, rate)
    local over = -rate[1]
    for _, start in ipairs(starts) do
      if counts(start, rate) then over = over + start[2] end
    end
    return over
  end

  local function room(starts, rate) return math.max(0, -excess(starts, rate)) end

  local function free_at(starts, rate)
    local over = excess(starts, rate) + 1
    if over <= 0 then return now end
    for _, start in ipairs(starts) do
      if counts(start, rate) then
        over = over - start[2]
        if over <= 0 then return (start[1] + SLOTS + 1) * slot_of(rate) end
      end
    end
    return now
  end

  -- These starts and so many more now.
  local function with_new(starts, rate, number)
    local slot, together, placed = slot_at(rate), {}, false
    local lapses = (slot + SLOTS + 1) * slot_of(rate)
    for _, start in ipairs(starts) do
      if not placed and start[1] >= slot then
        placed = true
        if start[1] == slot then
          start = { slot, start[2] + number, math.max(start[3], lapses) }
        else
          together[#together + 1] = { slot, number, lapses }
        end
      end
      together[#together + 1] = start
    end
    if not placed then together[#together + 1] = { slot, number, lapses } end
    return together
  end

  -- Whether a job may start, and if not when it may come again; 0: when another one with its key has left.
  -- use    {at_work, starts, entered = how many before it in this line may, kept_out = how many its rate keeps out already}
  local function admit(key_limit, rate, use)
    if key_limit and use.at_work + use.entered >= key_limit then return false, 0 end
    if rate and room(use.starts, rate) <= use.entered then
      local turn = math.floor(use.kept_out / rate[1])
      use.kept_out = use.kept_out + 1
      local starts = use.entered > 0 and with_new(use.starts, rate, use.entered) or use.starts
      return false, free_at(starts, rate) + turn * (SLOTS + 1) * slot_of(rate)
    end
    use.entered = use.entered + 1
    return true, 0
  end

  -- ------------------------------------------------------------------ what is counted

  local function read_starts(name)
    local text = redis.call('HGET', K_starts, name)
    return text and cmsgpack.unpack(text) or {}
  end

  local function count_starts(name, rate, number)
    if number == 0 then return end
    local known, lapses = {}, 0
    for _, start in ipairs(with_new(read_starts(name), rate, number)) do
      if start[3] > now then  -- else no window knows of it any more
        known[#known + 1] = start
        lapses = math.max(lapses, start[3])
      end
    end
    redis.call('HSET', K_starts, name, cmsgpack.pack(known))
    redis.call('ZADD', K_lapses, lapses, 'starts' .. NUL .. name)
  end

  -- As `of_queue` and `of_key` in core/rates.py name them.
  local function of_queue(queue) return 'queue/' .. queue end
  local function of_key(key) return 'key/' .. key end

  -- All members of a limit key in an index; or those of one queue, where it is named in them.
  local function from_to(key, queue)
    local first = keyed(key)
    if not queue then return '[' .. first, '(' .. first .. '\255' end
    return '[' .. first .. queue .. NUL, '(' .. first .. queue .. '\1'
  end
  local function key_at_work(key) return redis.call('ZLEXCOUNT', K_keyed_work, from_to(key)) end

  -- How many jobs of a key its rate has put off beyond now.
  local function put_off(key)
    local beyond = '[' .. keyed(key) .. struct.pack('>I8', now + 1)
    return math.min(MOST_KEPT_OUT, redis.call('ZLEXCOUNT', K_keyed_due, beyond, select(2, from_to(key))))
  end

  local uses = {}
  local function use_of(key)
    if not uses[key] then
      uses[key] = { at_work = key_at_work(key), starts = read_starts(of_key(key)),
                    entered = 0, kept_out = put_off(key), started = {} }
    end
    return uses[key]
  end

  -- Whether the key of a job in line lets it start now, as `admit` says; then it counts.
  local function enters(live)
    local rate = live[RATE_COUNT] and live[RATE_PER] and { live[RATE_COUNT], live[RATE_PER] }
    local use = use_of(live[LIMIT_KEY])
    local may, again = admit(live[KEY_LIMIT], rate, use)
    if may and rate then use.started[rate[2]] = (use.started[rate[2]] or 0) + 1 end
    return may, again
  end

  -- To be called behind all that entered.
  local function count_started()
    for key, use in pairs(uses) do
      for per, number in pairs(use.started) do count_starts(of_key(key), { 0, per }, number) end
    end
    uses = {}
  end

  local function queue_at_work(queue)
    local number = 0
    for _, state in ipairs({ 'claimed', 'running' }) do
      local field = queue .. NUL .. state
      number = number + (redis.call('HGET', K_counts, field) or 0) + (changed[field] or 0)
    end
    return number
  end

  -- How many more jobs of a queue may be claimed. limit  [at once or false, rate or false]
  local function room_in_queue(queue, limit)
    local most = math.huge
    if limit[1] then most = math.max(0, limit[1] - queue_at_work(queue)) end
    if limit[2] then most = math.min(most, room(read_starts(of_queue(queue)), limit[2])) end
    return most
  end

  -- Counts so many starts of a queue; the instant from which one more may start.
  local function count_of_queue(queue, rate, number)
    count_starts(of_queue(queue), rate, number)
    return free_at(read_starts(of_queue(queue)), rate)
  end

  -- ------------------------------------------------------------------ coming in

  -- Looks whether the first members of a key in an index are there still, and takes out those that are not: what could
  -- not be read left no trace of its key, and an older jobcard does not know of these indexes.
  local function look_again(index, key, from, to, is_there)
    for _, member in ipairs(redis.call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, 100)) do
      local live = read_live(string.sub(member, -32))
      if not live or live[LIMIT_KEY] ~= key or not is_there(live) then take_out(index, member) end
    end
  end
  local function works(live) return is_at_work(live[STATE]) end
  local function stands(live) return live[STATE] == 'waiting' and not live[HOLD] end

  -- Whether a key lets this one in: at work with it, and before it in the line of its queue, are fewer than its limit.
  local function has_room(live, member)
    local key, limit = live[LIMIT_KEY], live[KEY_LIMIT]
    if not limit then return true end
    local from, to = from_to(key, live[QUEUE])
    local function leaves_room()
      return key_at_work(key) + redis.call('ZLEXCOUNT', K_keyed_line, from, '(' .. member) < limit
    end
    if leaves_room() then return true end
    look_again(K_keyed_line, key, from, to, stands)
    from, to = from_to(key)
    look_again(K_keyed_work, key, from, to, works)
    return leaves_room()
  end

  -- Puts the first jobs that a key holds back in line, of each queue as many as it has room for, and in all `most`; how
  -- many.
  local function let_in(key, most)
    local number, from, to = 0, from_to(key)
    while number < most do
      local member = redis.call('ZRANGEBYLEX', K_keyed_held, from, to, 'LIMIT', 0, 1)[1]
      if not member then break end
      local id = string.sub(member, -32)
      local live = read_live(id)
      if live and live[LIMIT_KEY] == key and live[STATE] == 'waiting' and live[HOLD] == 'limit'
        and member == keyed_place(id, live) then
        if has_room(live, member) then
          count(live[QUEUE], 'waiting', -1)
          take_out(K_keyed_held, member)
          live[HOLD], live[VERSION] = false, live[VERSION] + 1
          enter(id, live)
          came_in[id] = true
          number = number + 1
        else
          from = select(2, from_to(key, live[QUEUE]))
        end
      elseif not live and type(redis.pcall('SADD', K_broken, id)) == 'table' then
        from = '(' .. member  -- a producer may not set it aside: it stays for whoever may
      else
        take_out(K_keyed_held, member)
      end
    end
    return number
  end

  return { admit = admit, enters = enters, count_started = count_started, room_in_queue = room_in_queue,
           count_of_queue = count_of_queue, let_in = let_in, from_to = from_to, queue_at_work = queue_at_work,
           key_at_work = key_at_work, put_off = put_off, of_queue = of_queue, of_key = of_key }
end

local made = nil
local function admission()
  made = made or new_admission()
  return made
end
