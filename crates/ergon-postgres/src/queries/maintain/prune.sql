-- Removes finished tasks that outlived their retention, the earliest first, then by id: $1 the instant,
-- or null for the clock's, $2 how many at the most. Their rows of `pack` go with its partition.
--
-- Index: settled (expires_at), task (expires_at), uniq (until). Caller: maintain.rs.
WITH t AS MATERIALIZED (
  SELECT coalesce($1, clock_timestamp()) AS now
), s AS MATERIALIZED (
  SELECT s.ctid AS tid, s.pack, s.first, s.n, s.expires_at, s.lane, 2::int2 AS phase
  FROM ergon.settled s WHERE s.expires_at <= (SELECT now FROM t)
  ORDER BY s.expires_at, s.pack, s.first LIMIT $2::int8 + 1 FOR UPDATE SKIP LOCKED
), e AS MATERIALIZED (
  SELECT e.ctid AS tid, e.pack, e.off AS first, 1::int2 AS n, e.expires_at, e.lane, e.phase
  FROM ergon.task e WHERE e.expires_at <= (SELECT now FROM t)
  ORDER BY e.expires_at, e.pack, e.off LIMIT $2::int8 + 1 FOR UPDATE SKIP LOCKED
), w AS MATERIALIZED (
  SELECT x.*, greatest(0, least(n, $2::int8 - coalesce(sum(n) OVER (ORDER BY expires_at, pack, first
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)))::int2 AS k
  FROM (SELECT s.*, true AS is_settled FROM s UNION ALL SELECT e.*, false FROM e) x
), settled_out AS (
  DELETE FROM ergon.settled WHERE ctid = ANY (ARRAY (SELECT tid FROM w WHERE k > 0 AND is_settled))
  RETURNING *
), settled_left AS (
  INSERT INTO ergon.settled (pack, token, started_at, finished_at, expires_at, lane, first, n, base,
    results, result_ends)
  SELECT o.pack, o.token, o.started_at, o.finished_at, o.expires_at, o.lane, o.first + w.k, o.n - w.k, o.base,
    o.results, o.result_ends
  FROM settled_out o JOIN w ON w.is_settled AND w.pack = o.pack AND w.first = o.first WHERE w.k < w.n
), task_out AS (
  DELETE FROM ergon.task WHERE ctid = ANY (ARRAY (SELECT tid FROM w WHERE k > 0 AND NOT is_settled))
), keys AS MATERIALIZED (
  -- Unique tasks have a row of `pack` each. A key that is held for a time outlives its task.
  SELECT decode(p.options #>> '{unique,hash}', 'hex') AS hash, w.pack, w.first
  FROM w CROSS JOIN LATERAL (
    SELECT p.options FROM ergon.pack p
    WHERE w.n = 1 AND p.pack = w.pack AND p.first = w.first AND p.options ? 'unique' LIMIT 1
  ) p
  WHERE w.k > 0
), uniq_out AS (
  DELETE FROM ergon.uniq
  WHERE hash = ANY (ARRAY (SELECT hash FROM keys)) AND until IS NULL
    AND (pack, off) IN (SELECT keys.pack, keys.first FROM keys)
), over AS (
  -- Keys that time alone has freed.
  DELETE FROM ergon.uniq WHERE ctid = ANY (ARRAY (
    SELECT q.ctid FROM ergon.uniq q WHERE q.until <= (SELECT now FROM t)
    ORDER BY q.until LIMIT $2::int8 FOR UPDATE SKIP LOCKED))
), d AS (
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  SELECT l.queue, 0, 0, -coalesce(sum(k) FILTER (WHERE phase = 2), 0),
    -coalesce(sum(k) FILTER (WHERE phase = 3), 0), -coalesce(sum(k) FILTER (WHERE phase = 4), 0)
  FROM w JOIN ergon.lane l ON l.id = w.lane WHERE w.k > 0 GROUP BY l.queue
), j AS (
  INSERT INTO ergon.journal (at, events, event, note)
  SELECT (SELECT now FROM t), 1, '{20}', jsonb_build_array(jsonb_build_object('tasks', sum(k)))
  FROM w WHERE k > 0 AND EXISTS (SELECT FROM ergon.watched)
  HAVING count(*) > 0
  RETURNING 1
)
SELECT coalesce(sum(k), 0)::int8 AS done, coalesce(bool_or(k < n), false) AS more, (SELECT now FROM t) AS now,
  EXISTS (SELECT FROM j) AS recorded
FROM w
