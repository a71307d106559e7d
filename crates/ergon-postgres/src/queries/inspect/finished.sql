-- Which of some tasks are finished or gone: $1 packs, $2 offsets; the places of those in the input,
-- counted from 1.
--
-- A task with a row in `task` is finished when that says so. Any other is finished when it is in
-- `settled`, and unfinished when it is in `ready`, at the key that its pack names, or in a lease. All
-- leases are read once, and only for tasks that were found nowhere else.
--
-- Index: task (pack, off), settled (pack, first), pack (pack, first), ready (lane, late, run_at, pack,
-- first). Caller: wait/question.rs.
WITH u AS MATERIALIZED (
  SELECT u.*, CASE
      WHEN t.phase IS NOT NULL THEN t.phase > 0
      WHEN EXISTS (
        SELECT FROM (
          SELECT s.first, s.n FROM ergon.settled s
          WHERE s.pack = u.pack AND s.first <= u.off ORDER BY s.first DESC LIMIT 1
        ) s WHERE s.first + s.n > u.off
      ) THEN true
      WHEN p.pack IS NULL THEN true
      WHEN EXISTS (
        SELECT FROM (
          SELECT r.first, r.n FROM ergon.ready r
          WHERE r.lane = p.lane AND r.late = p.late AND r.run_at = p.run_at AND r.pack = u.pack
            AND r.first <= u.off
          ORDER BY r.first DESC LIMIT 1
        ) r WHERE r.first + r.n > u.off
      ) THEN false
    END AS is_over
  FROM unnest($1::uuid[], $2::int2[]) WITH ORDINALITY AS u(pack, off, ord)
  LEFT JOIN LATERAL (
    SELECT t.phase FROM ergon.task t WHERE t.pack = u.pack AND t.off = u.off LIMIT 1
  ) t ON true
  LEFT JOIN LATERAL (
    SELECT p.pack, p.lane, p.late, p.run_at, p.first, p.n FROM ergon.pack p
    WHERE p.pack = u.pack AND p.first <= u.off ORDER BY p.first DESC LIMIT 1
  ) p ON p.first + p.n > u.off
), elsewhere AS MATERIALIZED (
  SELECT u.ord, u.pack, u.off FROM u WHERE is_over IS NULL
), running AS MATERIALIZED (
  SELECT x.pack, x.first, x.n
  FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
  WHERE EXISTS (SELECT FROM elsewhere) AND x.pack IN (SELECT e.pack FROM elsewhere e)
)
SELECT u.ord FROM u WHERE u.is_over
UNION ALL
SELECT e.ord FROM elsewhere e
WHERE NOT EXISTS (
  SELECT FROM running x WHERE x.pack = e.pack AND x.first <= e.off AND x.first + x.n > e.off
)
