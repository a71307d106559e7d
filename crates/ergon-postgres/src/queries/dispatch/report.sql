-- Keeps how far running tasks have come, of those whose claims are live: $1 the instant, or null for the
-- clock's, $2 packs, $3 offsets, $4 tokens, $5 how much is done, $6 of how much, or null, $7 messages. Answers the
-- places of those that are live in the input, counted from 1.
--
-- The leases are locked, so that nothing that ends an attempt comes before its reports; and before their
-- arrays are unfolded: see apart.sql. The commit does not wait for the disk, since an attempt does not
-- survive a crash either.
--
-- Index: lease (token, part), report (pack, off), pack (pack, first), task (pack, off).
-- Caller: dispatch/report.rs.
WITH t AS MATERIALIZED (
  SELECT coalesce($1, clock_timestamp()) AS now, set_config('synchronous_commit', 'off', true)
), locked AS MATERIALIZED (
  SELECT l.token, l.packs, l.firsts, l.ns FROM ergon.lease l
  WHERE l.token = ANY ($4::int8[]) AND EXISTS (
    -- Of a claim in parts those alone that are reported of: another may be held by an open transaction.
    SELECT FROM unnest($2::uuid[], $3::int2[], $4::int8[]) AS u(pack, off, token)
    JOIN unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
      ON x.pack = u.pack AND x.first <= u.off AND x.first + x.n > u.off
    WHERE u.token = l.token)
  ORDER BY l.token, l.part
  FOR SHARE
), runs AS MATERIALIZED (
  SELECT l.token, x.pack, x.first, x.n
  FROM locked l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
), held AS MATERIALIZED (
  SELECT u.*
  FROM unnest($2::uuid[], $3::int2[], $4::int8[], $5::int8[], $6::int8[], $7::text[]) WITH ORDINALITY
    AS u(pack, off, token, done, total, message, ord)
  JOIN runs ON runs.token = u.token AND runs.pack = u.pack AND runs.first <= u.off
    AND runs.first + runs.n > u.off
), kept AS (
  INSERT INTO ergon.report AS r (pack, off, token, at, done, total, message)
  SELECT DISTINCT ON (pack, off) pack, off, token, t.now, done, total, message
  FROM held CROSS JOIN t
  ORDER BY pack, off, ord DESC
  ON CONFLICT (pack, off) DO UPDATE SET token = excluded.token, at = excluded.at, done = excluded.done,
    total = excluded.total, message = excluded.message
), j AS (
  INSERT INTO ergon.journal (at, events, event, pack, first, n, lane, kind, attempt, note)
  SELECT (SELECT now FROM t), count(*), '{3}', array_agg(o.pack), array_agg(o.off), '{1}', array_agg(o.lane),
    array_agg(o.kind), array_agg(o.attempt), jsonb_agg(jsonb_build_object('done', o.done, 'total', o.total))
  FROM (
    SELECT held.pack, held.off, held.done, held.total, coalesce(s.lane, p.lane) AS lane, p.kind,
      coalesce(s.attempt, 0) + 1 AS attempt
    FROM held
    CROSS JOIN LATERAL (
      SELECT p.lane, p.kind FROM ergon.pack p
      WHERE p.pack = held.pack AND p.first <= held.off ORDER BY p.first DESC LIMIT 1
    ) p
    LEFT JOIN LATERAL (
      SELECT s.lane, s.attempt FROM ergon.task s WHERE s.pack = held.pack AND s.off = held.off LIMIT 1
    ) s ON true
    WHERE EXISTS (SELECT FROM ergon.watched)
    ORDER BY held.ord
  ) o
  HAVING count(*) > 0
  RETURNING 1
)
SELECT held.ord, EXISTS (SELECT FROM j) AS recorded FROM held
