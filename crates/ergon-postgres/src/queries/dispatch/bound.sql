-- Reads what lower bounds of `run_at` are made of: $1 lanes, $2 their bounds so far. The instant before the
-- snapshot; the oldest transaction that was under way then, and the next that would begin; for each lane,
-- the earliest row that is not late.
--
-- Index: ready (lane, late, run_at, pack, first). Caller: bound.rs.
SELECT statement_timestamp() AS at, pg_snapshot_xmin(s.s)::text::int8 AS oldest,
  pg_snapshot_xmax(s.s)::text::int8 AS next, u.lane, m.run_at
FROM (SELECT pg_current_snapshot() AS s) s
CROSS JOIN unnest($1::int4[], $2::timestamptz[]) AS u(lane, bound)
LEFT JOIN LATERAL (
  SELECT r.run_at FROM ergon.ready r
  WHERE r.lane = u.lane AND r.late = false AND r.run_at >= u.bound
  ORDER BY r.run_at LIMIT 1
) m ON true
