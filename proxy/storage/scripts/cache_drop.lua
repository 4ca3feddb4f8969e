-- Deletes what is of no use.
--
-- KEYS  what to delete
-- Answer: how many there were.

return redis.call('UNLINK', unpack(KEYS))
