-- Names partitions that ended $1 microseconds ago or earlier, and of which few rows of `settled` and of
-- `task` are left, the oldest first: at most $2 of each, or $3 when there are more than $4 old partitions.
-- Answers that number as well.
--
-- Index: settled (pack, first), task (pack, off). Caller: keeper/partitions.rs.
SELECT p.name, p.rows_max
FROM (
  SELECT p.*, CASE WHEN count(*) OVER () > $4::int8 THEN $3::int8 ELSE $2::int8 END AS rows_max
  FROM ergon.partition p
  WHERE p.high <= ergon.pack_bound(clock_timestamp() - $1::int8 * interval '1 microsecond')
) p
WHERE p.rows_max >= (SELECT count(*) FROM (
    SELECT FROM ergon.settled s WHERE s.pack >= p.low AND s.pack < p.high LIMIT (SELECT p.rows_max + 1)) x)
  AND p.rows_max >= (SELECT count(*) FROM (
    SELECT FROM ergon.task t WHERE t.pack >= p.low AND t.pack < p.high LIMIT (SELECT p.rows_max + 1)) x)
ORDER BY p.low
