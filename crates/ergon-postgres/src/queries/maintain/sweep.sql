-- Removes rows of `pack_default` whose tasks are gone: of $3 rows behind the pack $1 and offset $2, those
-- that were made $4 microseconds ago or earlier. Answers where it came to.
--
-- A task that is gone comes back only by a new row. One that waits has its row in `ready` at the key that
-- the pack names, or else one in `task`.
--
-- Index: pack_default (pack, first), task (pack, off), settled (pack, first), ready (lane, late, run_at,
-- pack, first); leases are read to their end. Caller: keeper/sweep.rs.
WITH b AS MATERIALIZED (
  SELECT p.ctid AS tid, p.pack, p.first, (p.first + p.n)::int4 AS stop, p.lane, p.late, p.run_at
  FROM ergon.pack_default p
  WHERE (p.pack, p.first) > ($1::uuid, $2::int2) AND p.pack < (
    SELECT ergon.pack_bound(clock_timestamp() - $4::int8 * interval '1 microsecond'))
  ORDER BY p.pack, p.first
  LIMIT $3::int8
), running AS MATERIALIZED (
  SELECT x.pack, x.first, x.n
  FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
  WHERE x.pack IN (SELECT b.pack FROM b)
), gone AS MATERIALIZED (
  SELECT b.tid FROM b
  WHERE NOT EXISTS (
    SELECT FROM ergon.task t WHERE t.pack = b.pack AND t.off >= b.first AND t.off < b.stop
  ) AND NOT EXISTS (
    SELECT FROM (
      SELECT s.first, s.n FROM ergon.settled s
      WHERE s.pack = b.pack AND s.first < b.stop ORDER BY s.first DESC LIMIT 1
    ) s WHERE s.first + s.n > b.first
  ) AND NOT EXISTS (
    SELECT FROM (
      SELECT r.first, r.n FROM ergon.ready r
      WHERE r.lane = b.lane AND r.late = b.late AND r.run_at = b.run_at AND r.pack = b.pack
        AND r.first < b.stop
      ORDER BY r.first DESC LIMIT 1
    ) r WHERE r.first + r.n > b.first
  ) AND NOT EXISTS (
    SELECT FROM running x WHERE x.pack = b.pack AND x.first < b.stop AND x.first + x.n > b.first
  )
), d AS (
  DELETE FROM ergon.pack_default WHERE ctid = ANY (ARRAY (SELECT tid FROM gone)) RETURNING 1
)
SELECT (SELECT count(*) FROM b) AS seen, (SELECT count(*) FROM d) AS removed, l.pack, l.first
FROM (VALUES (1)) AS one
LEFT JOIN (SELECT b.pack, b.first FROM b ORDER BY b.pack DESC, b.first DESC LIMIT 1) l ON true
