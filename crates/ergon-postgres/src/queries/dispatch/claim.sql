-- Gives due tasks to a server: takes ranges out of `ready` and writes one lease over all of them.
--
-- $1 queues by name, in the order of preference, $2 how many tasks of each, $3 kinds, $4 most ranges
-- a lane, $5 most ranges in all, $6 most tasks, $7 server, $8 lease in microseconds, $9 the instant, or
-- null for the clock's, $10 and $11 lanes with a lower bound of `run_at` below which nothing that is
-- not late waits (see bound.sql).
--
-- Rows of `ready` are locked, deleted by their place, and what a claim leaves of a range is a new row:
-- an UPDATE would move the row behind the back of other claims, and deliver tasks twice. Rows with
-- `late` were inserted when they were due already, as released tasks are; no lower bound holds for
-- them, so they are read by themselves.
--
-- Index: ready (lane, late, run_at, pack, first). Caller: dispatch.rs.
WITH t AS MATERIALIZED (
  SELECT coalesce($9, clock_timestamp()) AS now
), lanes AS MATERIALIZED (
  SELECT dense_rank() OVER (ORDER BY e.place, l.priority DESC) AS o, e.place, e.slots, l.id AS lane,
    l.queue, v.late, CASE WHEN v.late THEN '-infinity' ELSE coalesce(b.bound, '-infinity') END AS bound
  FROM unnest($1::text[], $2::int4[]) WITH ORDINALITY AS e(name, slots, place)
  JOIN ergon.queue q ON q.name = e.name AND NOT q.paused
  JOIN ergon.lane l ON l.queue = q.id
  LEFT JOIN unnest($10::int4[], $11::timestamptz[]) AS b(lane, bound) ON b.lane = l.id
  CROSS JOIN (VALUES (true), (false)) AS v(late)
  ORDER BY 1, v.late DESC
), found AS MATERIALIZED (
  SELECT lanes.o, lanes.place, lanes.slots, lanes.queue, r.*
  FROM lanes CROSS JOIN LATERAL (
    SELECT r.ctid AS tid, r.run_at, r.pack, r.lane, r.kind, r.attempt, r.first, r.n, r.base, r.late, r.own
    FROM ergon.ready r
    WHERE r.lane = lanes.lane AND r.late = lanes.late AND r.run_at >= lanes.bound
      AND r.run_at <= (SELECT now FROM t) AND r.kind = ANY ($3::int4[])
    ORDER BY r.run_at, r.pack, r.first
    LIMIT least($4::int4, lanes.slots)
    FOR UPDATE SKIP LOCKED
  ) r
  LIMIT $5::int8
), by_queue AS (
  SELECT found.*, greatest(0, least(n, slots - coalesce(sum(n) OVER (
      PARTITION BY place ORDER BY o, run_at, pack, first
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0))) AS fit
  FROM found
), w AS MATERIALIZED (
  SELECT by_queue.*, row_number() OVER (ORDER BY o, run_at, pack, first) AS place_in_claim,
    greatest(0, least(fit, $6::int4 - coalesce(sum(fit) OVER (
      ORDER BY o, run_at, pack, first
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)))::int2 AS k
  FROM by_queue
), d AS (
  DELETE FROM ergon.ready WHERE ctid = ANY (ARRAY (SELECT tid FROM w WHERE k > 0))
), rest AS (
  INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
  SELECT run_at, pack, lane, kind, attempt, first + k, n - k, base, late, own FROM w WHERE k > 0 AND k < n
), l AS (
  INSERT INTO ergon.lease (token, part, version, cancels, server, started_at, until, packs, firsts, ns)
  SELECT nextval('ergon.token'), 0, 0, 0, $7, min(t.now), min(t.now) + $8::int8 * interval '1 microsecond',
    array_agg(pack ORDER BY place_in_claim), array_agg(first ORDER BY place_in_claim),
    array_agg(k ORDER BY place_in_claim)
  FROM w CROSS JOIN t WHERE k > 0 HAVING count(*) > 0
  RETURNING token
), c AS (
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  SELECT queue, -sum(k), sum(k), 0, 0, 0 FROM w WHERE k > 0 GROUP BY queue
), j AS (
  INSERT INTO ergon.journal (at, server, events, event, pack, first, n, lane, kind, attempt, instant)
  SELECT (SELECT now FROM t), $7::uuid, sum(o.k), '{2}', array_agg(o.pack), array_agg(o.first), array_agg(o.k),
    array_agg(o.lane), array_agg(o.kind), array_agg(o.attempt + 1), array_agg(o.run_at)
  FROM (
    SELECT * FROM w WHERE k > 0 AND EXISTS (SELECT FROM ergon.watched) ORDER BY place_in_claim
  ) o
  HAVING count(*) > 0
  RETURNING 1
), taken AS MATERIALIZED (
  SELECT w.place_in_claim, w.pack, w.first, w.k, w.lane, w.kind, w.run_at, w.own, p.first AS pack_first,
    (greatest(w.first, p.first) - p.first)::int4 AS skip,
    (least(w.first + w.k, p.first + p.n) - p.first)::int4 AS stop,
    p.n AS pack_n, p.created_at, p.max_attempts, p.payload, p.ends, p.options, p.metadata, p.tags
  FROM w CROSS JOIN LATERAL (
    SELECT * FROM ergon.pack p
    WHERE p.pack = w.pack AND p.first >= w.base AND p.first < w.first + w.k AND p.first + p.n > w.first
    ORDER BY p.first
    OFFSET 0
  ) p
  WHERE w.k > 0
), freed AS (
  -- The keys that are held until a task is started.
  DELETE FROM ergon.uniq
  WHERE hash = ANY (ARRAY (
    SELECT decode(taken.options #>> '{unique,hash}', 'hex') FROM taken
    WHERE taken.options @> '{"unique": {"scope": "until_started"}}'))
    AND (pack, off) IN (
      SELECT taken.pack, taken.first FROM taken
      WHERE taken.options @> '{"unique": {"scope": "until_started"}}')
)
SELECT (SELECT token FROM l) AS token, (SELECT now FROM t) AS now,
  (SELECT count(*) FROM found) AS found, taken.place_in_claim, taken.pack, taken.lane, taken.kind, taken.run_at, taken.own, taken.created_at, taken.pack_first, taken.skip, taken.stop,
  coalesce(s.max_attempts, taken.max_attempts) AS max_attempts, coalesce(s.attempt, 0) AS attempt,
  coalesce(s.crash_count, 0) AS crash_count, taken.options, taken.metadata, taken.tags,
  CASE WHEN taken.pack_n = 1 THEN taken.payload
    ELSE substr(taken.payload, 1 + CASE WHEN taken.skip = 0 THEN 0 ELSE taken.ends[taken.skip] END,
      taken.ends[taken.stop] - CASE WHEN taken.skip = 0 THEN 0 ELSE taken.ends[taken.skip] END)
  END AS payload,
  CASE WHEN taken.skip = 0 THEN 0 ELSE taken.ends[taken.skip] END AS payload_at,
  taken.ends[taken.skip + 1:taken.stop] AS ends, EXISTS (SELECT FROM j) AS recorded
FROM taken LEFT JOIN LATERAL (
  SELECT t.max_attempts, t.attempt, t.crash_count FROM ergon.task t
  WHERE taken.own AND t.pack = taken.pack AND t.off = taken.first
  LIMIT 1
) s ON true
ORDER BY taken.place_in_claim, taken.pack_first
