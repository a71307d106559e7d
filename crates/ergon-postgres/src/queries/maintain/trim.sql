-- Keeps the journal within its window: $1 how many bytes it may hold, $2 for how many microseconds; looks at $3
-- rows at the most. The newest row is never removed for its bytes.
--
-- Bytes are counted once a row, when it is first seen: see `counted`. One after another; who comes meanwhile
-- does nothing, and so does who sees less than was counted. Answers how many rows were removed, and whether
-- there may be more.
--
-- Index: journal (id), journal (xid, id), journal_state (sole). Caller: keeper/journal.rs.
WITH s AS MATERIALIZED (
  SELECT s.* FROM ergon.journal_state s WHERE s.sole FOR UPDATE SKIP LOCKED
), fit AS MATERIALIZED (
  SELECT s.* FROM s WHERE pg_snapshot_xmax(pg_current_snapshot()) > pg_snapshot_xmax(s.counted)
), fresh AS MATERIALIZED (
  SELECT coalesce(sum(f.bytes), 0)::int8 AS bytes, min(f.id) AS id
  FROM (
    SELECT j.id, pg_column_size(j.*) AS bytes FROM ergon.journal j
    WHERE j.xid >= (SELECT pg_snapshot_xmax(counted) FROM fit)
    UNION ALL
    SELECT j.id, pg_column_size(j.*) FROM ergon.journal j
    WHERE j.xid = ANY (ARRAY (SELECT pg_snapshot_xip(counted) FROM fit))
  ) f
), old AS MATERIALIZED (
  SELECT j.ctid AS tid, j.id, j.xid, j.recorded_at, pg_column_size(j.*) AS bytes
  FROM ergon.journal j
  WHERE j.id >= (SELECT least(fit.low, fresh.id) FROM fit CROSS JOIN fresh)
  ORDER BY j.id
  LIMIT $3::int8
), weighed AS MATERIALIZED (
  SELECT old.*, coalesce(sum(old.bytes) OVER (ORDER BY old.id
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
  FROM old
), over AS MATERIALIZED (
  SELECT w.* FROM weighed w
  WHERE w.recorded_at <= clock_timestamp() - $2::int8 * interval '1 microsecond'
    OR ((SELECT fit.bytes + fresh.bytes FROM fit CROSS JOIN fresh) - w.before > $1::int8
      AND w.id < (SELECT j.id FROM ergon.journal j ORDER BY j.id DESC LIMIT 1))
), gone AS (
  DELETE FROM ergon.journal WHERE ctid = ANY (ARRAY (SELECT tid FROM over)) RETURNING 1
), kept AS (
  UPDATE ergon.journal_state n SET
    bytes = greatest(0, fit.bytes + fresh.bytes - coalesce((SELECT sum(bytes) FROM over), 0)),
    counted = pg_current_snapshot(),
    floor = greatest(fit.floor, (SELECT xid FROM over ORDER BY xid DESC LIMIT 1)),
    floor_id = greatest(fit.floor_id, (SELECT max(id) FROM over)),
    low = coalesce((SELECT min(old.id) FROM old WHERE old.id NOT IN (SELECT id FROM over)),
      (SELECT max(old.id) + 1 FROM old), fit.low)
  FROM fit CROSS JOIN fresh
  WHERE n.sole
)
SELECT (SELECT count(*) FROM gone) AS removed,
  (SELECT count(*) FROM over) = $3 AS more
