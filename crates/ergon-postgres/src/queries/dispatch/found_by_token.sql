-- Reads the tasks of outcomes, if they run under the tokens that these name: $1 whether with their
-- payloads, $2 packs, $3 offsets, $4 tokens. A task that runs under another token is found in no lease.
--
-- Index: lease (token, part), and see place.sql, which follows in place of the last line.
-- Caller: place.rs.
WITH u AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::int2[]) WITH ORDINALITY AS u(pack, off, ord)
), running AS MATERIALIZED (
  SELECT l.token, l.part, l.version, l.until, l.started_at, x.pack, x.first, x.n
  FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
  WHERE l.token = ANY ($4::int8[]) AND x.pack = ANY ($2)
)
-- place.sql
