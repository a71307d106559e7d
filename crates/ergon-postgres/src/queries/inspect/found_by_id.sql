-- Reads tasks by id: $1 whether with their payloads, $2 packs, $3 offsets.
--
-- Index: see place.sql, which follows in place of the last line. Caller: place.rs.
WITH u AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::int2[]) WITH ORDINALITY AS u(pack, off, ord)
), running AS MATERIALIZED (
  SELECT l.token, l.part, l.version, l.until, l.started_at, x.pack, x.first, x.n
  FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
  WHERE x.pack = ANY ($2)
)
-- place.sql
