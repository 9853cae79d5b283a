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

redis.register_function('freshet_append_VERSION', append)
redis.register_function('freshet_link_VERSION', link)
