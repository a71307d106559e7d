-- Reads every queue with its counters, at $1, or at the clock's instant when that is null. What is not due
-- yet is counted where it stands; the backlog never is.
--
-- Index: count (queue), ready (lane, late, run_at, pack, first). Caller: inspect.rs.
SELECT q.name, q.paused, coalesce(c.waiting, 0)::int8 AS waiting, coalesce(c.running, 0)::int8 AS running,
  coalesce(c.completed, 0)::int8 AS completed, coalesce(c.failed, 0)::int8 AS failed,
  coalesce(c.cancelled, 0)::int8 AS cancelled, coalesce(f.scheduled, 0)::int8 AS scheduled,
  coalesce(f.retrying, 0)::int8 AS retrying
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
WHERE q.touched OR c.queue IS NOT NULL
