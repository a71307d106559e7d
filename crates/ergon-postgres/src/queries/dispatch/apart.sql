-- Gives one task of a lease a part of its own: $1 token, $2 pack, $3 offset. Does nothing when it has one, or
-- is not in the lease.
--
-- Index: lease (token, part). Caller: transaction.rs.
WITH old AS (
  SELECT l.token, l.part, x.first, x.n, x.place
  FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) WITH ORDINALITY
    AS x(pack, first, n, place)
  WHERE l.token = $1 AND x.pack = $2 AND x.first <= $3::int2 AND x.first + x.n > $3::int2
    AND (cardinality(l.packs) > 1 OR x.n > 1)
  FOR UPDATE OF l
), cut AS (
  UPDATE ergon.lease l SET version = l.version + 1,
    cancels = l.cancels - s.cancels,
    packs = l.packs[:old.place - 1] || CASE WHEN old.first < $3 THEN ARRAY[$2::uuid] ELSE '{}' END
      || CASE WHEN $3 < old.first + old.n - 1 THEN ARRAY[$2::uuid] ELSE '{}' END || l.packs[old.place + 1:],
    firsts = l.firsts[:old.place - 1] || CASE WHEN old.first < $3 THEN ARRAY[old.first] ELSE '{}' END
      || CASE WHEN $3 < old.first + old.n - 1 THEN ARRAY[($3 + 1)::int2] ELSE '{}' END
      || l.firsts[old.place + 1:],
    ns = l.ns[:old.place - 1] || CASE WHEN old.first < $3 THEN ARRAY[($3 - old.first)::int2] ELSE '{}' END
      || CASE WHEN $3 < old.first + old.n - 1 THEN ARRAY[(old.first + old.n - 1 - $3)::int2] ELSE '{}' END
      || l.ns[old.place + 1:]
  FROM old CROSS JOIN LATERAL (
    SELECT count(*)::int4 AS cancels FROM ergon.task t
    WHERE t.pack = $2 AND t.off = $3 AND t.cancel_requested
  ) s
  WHERE l.token = old.token AND l.part = old.part
  RETURNING l.token, l.server, l.started_at, l.until, s.cancels
), new AS (
  INSERT INTO ergon.lease (token, part, version, cancels, server, started_at, until, packs, firsts, ns)
  SELECT cut.token, (SELECT max(l.part) + 1 FROM ergon.lease l WHERE l.token = $1), 0, cut.cancels, cut.server,
    cut.started_at, cut.until, ARRAY[$2::uuid], ARRAY[$3::int2], ARRAY[1::int2]
  FROM cut
  RETURNING 1
)
SELECT count(*) AS apart FROM new
