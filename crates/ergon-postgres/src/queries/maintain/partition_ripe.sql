-- Names partitions that ended $1 microseconds ago or earlier, and of which at most $2 rows of `settled`
-- and as many of `task` are left, the oldest first.
--
-- Index: settled (pack, first), task (pack, off). Caller: keeper/partitions.rs.
SELECT p.name FROM ergon.partition p
WHERE p.high <= ergon.pack_bound(clock_timestamp() - $1::int8 * interval '1 microsecond')
  AND $2::int8 >= (SELECT count(*) FROM (
    SELECT FROM ergon.settled s WHERE s.pack >= p.low AND s.pack < p.high LIMIT $2::int8 + 1) x)
  AND $2::int8 >= (SELECT count(*) FROM (
    SELECT FROM ergon.task t WHERE t.pack >= p.low AND t.pack < p.high LIMIT $2::int8 + 1) x)
ORDER BY p.low
