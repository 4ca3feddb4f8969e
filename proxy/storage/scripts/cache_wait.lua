-- Whether a lease is held.
--
-- KEYS[1]  the lease
-- Answer: 1 or 0.

return redis.call('EXISTS', KEYS[1])
