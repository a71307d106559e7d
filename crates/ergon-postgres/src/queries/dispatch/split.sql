-- Splits a lease of which a beat names only some tasks: these go to a part of their own, and are renewed.
-- $1 token, $2 part, $3 version; what is left: $4 packs, $5 firsts, $6 ns; what is renewed: $7, $8, $9; $10 how
-- many of these were asked to stop; $11 the instant, or null for the clock's, $12 for how many microseconds.
--
-- Index: lease (token, part). Caller: dispatch/beat.rs.
WITH old AS (
  UPDATE ergon.lease l SET version = l.version + 1, packs = $4::uuid[], firsts = $5::int2[], ns = $6::int2[],
    cancels = l.cancels - $10::int4
  WHERE l.token = $1 AND l.part = $2 AND l.version = $3
  RETURNING l.*
), new AS (
  INSERT INTO ergon.lease (token, part, version, cancels, server, started_at, until, packs, firsts, ns)
  SELECT old.token, nextval('ergon.token'), 0, $10::int4, old.server,
    old.started_at, coalesce($11, clock_timestamp()) + $12::int8 * interval '1 microsecond',
    $7::uuid[], $8::int2[], $9::int2[]
  FROM old
  RETURNING 1
)
SELECT count(*) AS split FROM new
