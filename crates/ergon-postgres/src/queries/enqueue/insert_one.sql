-- Stores one task, or nothing when its id is taken: what insert.sql does for many, for callers who are alone,
-- at half the cost.
--
-- $1 the instant, or null for the clock's, $2 pack, $3 offset, $4 lane, $5 kind, $6 when it is due, or null, $7 how many
-- microseconds after the insert then, $8 attempts, $9 payload, $10 options, $11 metadata, $12 tags, $13 queue, $14 bucket of the id.
--
-- Index: pack (pack, first). Caller: enqueue.rs.
WITH z AS MATERIALIZED (
  SELECT pg_current_xact_id() AS xid, clock_timestamp() AS clock
), p AS (
  INSERT INTO ergon.pack (pack, run_at, created_at, lane, kind, max_attempts, first, n, late, payload,
    options, metadata, tags)
  SELECT $2::uuid, t.run_at, t.created_at, $4::int4, $5::int4, $8::int4, $3::int2, 1, t.run_at < t.clock,
    $9::bytea, $10::jsonb, $11::jsonb, $12::jsonb
  FROM (
    SELECT z.clock, coalesce($1::timestamptz, z.clock) AS created_at,
      coalesce($6::timestamptz, coalesce($1, z.clock) + $7::int8 * interval '1 microsecond') AS run_at
    FROM z
  ) t
  -- The first of a pack can only be in a row with the same key.
  WHERE $3::int2 = 0 OR ergon.is_free($14::int4, false, $2::uuid, $3::int4, $3::int4)
  ON CONFLICT DO NOTHING
  RETURNING run_at, late, created_at
), r AS (
  INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
  SELECT p.run_at, $2::uuid, $4::int4, $5::int4, 0, $3::int2, 1, $3::int2, p.late, false FROM p
), d AS (
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  SELECT $13::int4, 1, 0, 0, 0, 0 FROM p
)
SELECT EXISTS (SELECT FROM p) AS stored, coalesce(EXISTS (SELECT FROM ergon.watched) AND (
  SELECT ergon.record_enqueued(p.created_at, $2, $3, $4, $5, p.run_at) FROM p), false) AS recorded
