-- Reads every queue with its counters, at $1, or at the clock's instant when that is null. What is not due
-- yet is counted where it stands; the backlog never is. What has been due for longest is the first of a
-- lane; $2 and $3 are lanes with a lower bound below which nothing that is not late waits (see bound.sql).
--
-- Index: count (queue), ready (lane, late, run_at, pack, first). Caller: inspect.rs.
SELECT q.name, q.paused, coalesce(c.waiting, 0)::int8 AS waiting, coalesce(c.running, 0)::int8 AS running,
  coalesce(c.completed, 0)::int8 AS completed, coalesce(c.failed, 0)::int8 AS failed,
  coalesce(c.cancelled, 0)::int8 AS cancelled, coalesce(f.scheduled, 0)::int8 AS scheduled,
  coalesce(f.retrying, 0)::int8 AS retrying, o.run_at AS oldest_due_at, o.lanes
FROM ergon.queue q
LEFT JOIN (
  SELECT queue, sum(waiting) AS waiting, sum(running) AS running, sum(completed) AS completed,
    sum(failed) AS failed, sum(cancelled) AS cancelled
  FROM (SELECT * FROM ergon.count UNION ALL SELECT * FROM ergon.delta) x
  GROUP BY queue
) c ON c.queue = q.id
LEFT JOIN LATERAL (
  SELECT sum(r.n) FILTER (WHERE r.attempt = 0) AS scheduled, sum(r.n) FILTER (WHERE r.attempt > 0) AS retrying
  FROM ergon.lane l
  CROSS JOIN (VALUES (true), (false)) AS v(late)
  JOIN ergon.ready r ON r.lane = l.id AND r.late = v.late AND r.run_at > coalesce($1, clock_timestamp())
  WHERE l.queue = q.id
) f ON true
LEFT JOIN LATERAL (
  SELECT min(h.run_at) AS run_at, array_agg(DISTINCT l.id) AS lanes
  FROM ergon.lane l
  LEFT JOIN unnest($2::int4[], $3::timestamptz[]) AS b(lane, bound) ON b.lane = l.id
  CROSS JOIN (VALUES (true), (false)) AS v(late)
  LEFT JOIN LATERAL (
    SELECT r.run_at FROM ergon.ready r
    WHERE r.lane = l.id AND r.late = v.late
      AND r.run_at >= CASE WHEN v.late THEN '-infinity' ELSE coalesce(b.bound, '-infinity') END
      AND r.run_at <= coalesce($1, clock_timestamp())
    ORDER BY r.run_at, r.pack, r.first
    LIMIT 1
  ) h ON true
  WHERE l.queue = q.id
) o ON true
WHERE q.touched OR c.queue IS NOT NULL
