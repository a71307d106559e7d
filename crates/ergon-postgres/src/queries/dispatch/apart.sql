-- Gives one task of a lease a part of its own: $1 token, $2 pack, $3 offset. Does nothing when it has one, or
-- is not in the lease.
--
-- The row is locked before its arrays are unfolded: a statement that waits for a lock goes on with the row
-- as it has become, but with what it had made of the row as it was. The number of the part is drawn, since
-- the parts of those who came first cannot be seen yet.
--
-- Index: lease (token, part). Caller: transaction.rs.
WITH locked AS MATERIALIZED (
  SELECT l.token, l.part, l.packs, l.firsts, l.ns
  FROM ergon.lease l
  WHERE l.token = $1 AND $2::uuid = ANY (l.packs) AND (cardinality(l.packs) > 1 OR l.ns[1] > 1)
  FOR UPDATE
), old AS MATERIALIZED (
  SELECT l.token, l.part, x.first, x.n, x.place
  FROM locked l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) WITH ORDINALITY
    AS x(pack, first, n, place)
  WHERE x.pack = $2 AND x.first <= $3::int2 AND x.first + x.n > $3::int2
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
  SELECT cut.token, nextval('ergon.token'), 0, cut.cancels, cut.server,
    cut.started_at, cut.until, ARRAY[$2::uuid], ARRAY[$3::int2], ARRAY[1::int2]
  FROM cut
  RETURNING 1
)
SELECT count(*) AS apart FROM new
