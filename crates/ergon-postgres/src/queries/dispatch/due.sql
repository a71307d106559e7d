-- How long it is until a task of some kinds is due in some queues: $1 queues and $2 kinds, by name,
-- $3 how many ranges are looked at in each lane. Microseconds by the database's clock, not positive
-- when one is due, null when none was found; paused queues do not count.
--
-- A lane that begins with many ranges of other kinds is not walked to its end: what stands behind the
-- first $3 is left to the claim.
--
-- Index: ready (lane, late, run_at, pack, first), two probes a lane. Caller: wait/question.rs.
SELECT (extract(epoch FROM min(found.run_at) - clock_timestamp()) * 1000000)::int8 AS micros
FROM ergon.queue q
JOIN ergon.lane l ON l.queue = q.id
CROSS JOIN (VALUES (true), (false)) AS v(late)
CROSS JOIN LATERAL (
  SELECT head.run_at
  FROM (
    SELECT r.run_at, r.kind
    FROM ergon.ready r
    WHERE r.lane = l.id AND r.late = v.late
    ORDER BY r.run_at, r.pack, r.first
    LIMIT $3::int8
  ) head
  WHERE head.kind = ANY (ARRAY (SELECT k.id FROM ergon.kind k WHERE k.name = ANY ($2::text[])))
  ORDER BY head.run_at
  LIMIT 1
) found
WHERE q.name = ANY ($1::text[]) AND NOT q.paused
