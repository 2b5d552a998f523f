-- Uses every right that the other scripts need, on a key of its own: a user who lacks one learns it at the start, and not
-- in the middle of a change that Redis would not take back.
--
-- KEYS  1 a text, 2 a hash; both are gone afterwards
-- Result  1

redis.call('TIME')
redis.call('SET', KEYS[1], '')
redis.call('SETNX', KEYS[1], '')
redis.call('SETRANGE', KEYS[1], 0, ' ')
redis.call('GET', KEYS[1])
redis.call('EXISTS', KEYS[1])
redis.call('HSET', KEYS[2], 'name', 1)
redis.call('HSETNX', KEYS[2], 'name', 1)
redis.call('HINCRBY', KEYS[2], 'name', 1)
redis.call('HGET', KEYS[2], 'name')
redis.call('HEXISTS', KEYS[2], 'name')
redis.call('HGETALL', KEYS[2])
redis.call('HDEL', KEYS[2], 'name')
redis.call('DEL', KEYS[1], KEYS[2])
return 1
