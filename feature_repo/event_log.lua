#!lua name=freshet_VERSION

-- The writes of the event log. Every key of a call carries one hash tag, the partition's, and stands in KEYS.
-- Redis does not roll a failed function back, so nothing here may fail: what comes in was checked before.

-- Keep the newest `size` members of a sorted set. ZADD GT makes it a union by latest score, and equal scores
-- order by member, so the result does not depend on the order of arrival. The set expires `ttl` ms from now.
local function keep_newest(set, score, member, size, ttl)
  redis.call('ZADD', set, 'GT', score, member)
  redis.call('ZREMRANGEBYRANK', set, 0, -1 - size)
  redis.call('PEXPIRE', set, ttl)
end

-- KEYS: the stream, then for each event its dedup mark and the sorted set it goes to.
-- ARGV: the life of a mark (ms), then for each event: score, member, size and ttl (ms) of the set, JSON.
-- Returns for each event 1 when it was new, 0 when its mark was there.
local function append(keys, args)
  local stream, mark_ttl = keys[1], args[1]
  local accepted = {}
  for event = 1, (#keys - 1) / 2 do
    local mark, set = keys[2 * event], keys[2 * event + 1]
    local score, member, size, ttl, json = unpack(args, 5 * event - 3, 5 * event + 1)
    if redis.call('SET', mark, '', 'NX', 'PX', mark_ttl) then
      keep_newest(set, score, member, size, ttl)
      redis.call('XADD', stream, '*', 'event', json)
      accepted[event] = 1
    else
      accepted[event] = 0
    end
  end
  return accepted
end

-- KEYS: the link of each visitor. ARGV: the life of a link (ms), then for each link: score, member.
local function link(keys, args)
  for visitor = 1, #keys do
    keep_newest(keys[visitor], args[2 * visitor], args[2 * visitor + 1], 1, args[1])
  end
  return #keys
end

-- KEYS: the stream, the dead letters. ARGV: group, entry id, how many letters to keep, the letter's fields and values.
-- Returns 1, or 0 when the group was done with the entry already.
local function bury(keys, args)
  local acknowledged = redis.call('XACK', keys[1], args[1], args[2])
  if acknowledged == 1 then
    redis.call('XADD', keys[2], 'MAXLEN', args[3], '*', unpack(args, 4))
  end
  return acknowledged
end

-- KEYS: the stream or the dead letters, then counters. ARGV: the group, or '' for dead letters; for each counter when
-- it is forgotten (ms since 1970); then for each entry: its id, how many fields, and of each the counter's number and
-- its name. An entry counts only if it was not done yet, so that it counts once, whoever dies in between.
-- Returns how many entries counted.
local function count(keys, args)
  local group, counted, at = args[1], 0, #keys + 1
  while at <= #args do
    local id, fields = args[at], tonumber(args[at + 1])
    local first
    if group == '' then
      first = redis.call('XDEL', keys[1], id)
    else
      first = redis.call('XACK', keys[1], group, id)
    end
    if first == 1 then
      counted = counted + 1
      for field = at + 2, at + 2 * fields, 2 do
        redis.call('HINCRBY', keys[1 + tonumber(args[field])], args[field + 1], 1)
      end
    end
    at = at + 2 + 2 * fields
  end
  for counter = 2, #keys do
    redis.call('PEXPIREAT', keys[counter], args[counter])
  end
  return counted
end

-- KEYS: the stream. ARGV: the group, which begins at the oldest entry.
-- Returns 1, or 0 when the group was there.
local function join(keys, args)
  for _, group in ipairs(redis.call('EXISTS', keys[1]) == 1 and redis.call('XINFO', 'GROUPS', keys[1]) or {}) do
    if group[2] == args[1] then
      return 0
    end
  end
  redis.call('XGROUP', 'CREATE', keys[1], args[1], '0', 'MKSTREAM')
  return 1
end

-- KEYS: the stream. ARGV: the group, how long silent (ms). Forgets the consumers that hold nothing and were silent so
-- long: every process that ever consumed left one. Who lives after all is known again when it reads.
-- Returns how many went.
local function forget(keys, args)
  local gone = 0
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', keys[1], args[1])) do
    local name, pending, idle = consumer[2], consumer[4], consumer[6]
    if pending == 0 and idle >= tonumber(args[2]) then
      redis.call('XGROUP', 'DELCONSUMER', keys[1], args[1], name)
      gone = gone + 1
    end
  end
  return gone
end

-- What Redis tells as a list of names and values, by name.
local function by_name(told)
  local values = {}
  for at = 1, #told, 2 do
    values[told[at]] = told[at + 1]
  end
  return values
end

-- KEYS: a stream. ARGV: ids of entries to erase. Redis only marks an erased or trimmed entry: its bytes stay until its
-- neighbours go, too. So the stream is written anew, with its groups and what their consumers have not acknowledged.
-- Returns how many entries were erased.
local function erase(keys, args)
  local stream, erased, waiting = keys[1], 0, {}
  if redis.call('EXISTS', stream) == 0 then
    return 0
  end
  for _, id in ipairs(args) do
    erased = erased + redis.call('XDEL', stream, id)
  end
  local last = by_name(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
  local groups = redis.call('XINFO', 'GROUPS', stream)
  for place, told in ipairs(groups) do
    groups[place] = by_name(told)
    local held = groups[place]['pending']
    waiting[place] = held == 0 and {} or redis.call('XPENDING', stream, groups[place]['name'], '-', '+', held)
  end
  local entries = redis.call('XRANGE', stream, '-', '+')
  redis.call('DEL', stream)
  for _, entry in ipairs(entries) do
    redis.call('XADD', stream, entry[1], unpack(entry[2]))
  end
  for place, group in ipairs(groups) do
    redis.call('XGROUP', 'CREATE', stream, group['name'], group['last-delivered-id'], 'MKSTREAM')
    for _, given in ipairs(waiting[place]) do
      local id, consumer, idle, deliveries = unpack(given)
      redis.call('XCLAIM', stream, group['name'], consumer, 0, id, 'IDLE', idle, 'RETRYCOUNT', deliveries, 'FORCE', 'JUSTID')
    end
  end
  if redis.call('EXISTS', stream) == 1 then
    redis.call('XSETID', stream, last)
  end
  return erased
end

-- What takes new events is refused when memory is full. What drains the log is not: only it makes room again.
local function register(name, callback, flags)
  redis.register_function{function_name = 'freshet_' .. name .. '_VERSION', callback = callback, flags = flags}
end

register('append', append, {})
register('link', link, {})
register('join', join, {'allow-oom'})
register('forget', forget, {'allow-oom'})
register('bury', bury, {'allow-oom'})
register('count', count, {'allow-oom'})
register('erase', erase, {'allow-oom'})
