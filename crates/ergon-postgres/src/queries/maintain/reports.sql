-- Removes reports whose claims are over: of $3 rows behind the pack $1 and offset $2. Answers how many were seen
-- and removed, and where it came to. Whoever reads a report asks for the token as well.
--
-- Index: report (pack, off), lease (token, part). Caller: keeper/journal.rs.
WITH b AS MATERIALIZED (
  SELECT r.pack, r.off, r.token FROM ergon.report r
  WHERE (r.pack, r.off) > ($1::uuid, $2::int2)
  ORDER BY r.pack, r.off
  LIMIT $3::int8
), gone AS (
  DELETE FROM ergon.report WHERE ctid = ANY (ARRAY (
    SELECT x.tid
    FROM b CROSS JOIN LATERAL (
      SELECT r.ctid AS tid FROM ergon.report r
      WHERE r.pack = b.pack AND r.off = b.off AND r.token = b.token
      LIMIT 1 FOR UPDATE
    ) x
    WHERE NOT EXISTS (SELECT FROM ergon.lease l WHERE l.token = b.token AND b.pack = ANY (l.packs))))
  RETURNING 1
)
SELECT (SELECT count(*) FROM b) AS seen, (SELECT count(*) FROM gone) AS removed, l.pack, l.off
FROM (VALUES (1)) AS one
LEFT JOIN (SELECT b.pack, b.off FROM b ORDER BY b.pack DESC, b.off DESC LIMIT 1) l ON true
