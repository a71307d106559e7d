-- Stores new tasks in one step, or nothing when one of their ids is taken.
--
-- One array element a row of `pack`; `ready_n` is the length of its row in `ready`, 0 when an earlier
-- one covers it. The last arrays: runs of ids, to be looked for among those that are stored, in the order
-- of their buckets, so that locks are taken in one order; how many tasks each queue gets; the buckets, and
-- whether tasks of a run share a row.
--
-- An instant that is not given is the clock's, read after the transaction has its number: of rows with
-- `late = false`, none appears with an earlier `run_at` than the clock showed when the oldest
-- transaction under way began. The lower bounds of claims rest on that.
--
-- While somebody watches it is recorded in the journal, and so does every statement that changes a task.
--
-- Index: pack (pack, first). Caller: enqueue.rs.
WITH z AS MATERIALIZED (
  SELECT pg_current_xact_id() AS xid, clock_timestamp() AS clock
), taken AS MATERIALIZED (
  SELECT 1
  FROM unnest($17::uuid[], $18::int4[], $19::int4[], $22::int4[], $23::boolean[])
    AS g(pack, first, last, bucket, shares_row)
  WHERE NOT ergon.is_free(g.bucket, g.shares_row, g.pack, g.first, g.last)
  LIMIT 1
), i AS MATERIALIZED (
  SELECT u.*, coalesce($1, z.clock) AS created_at,
    coalesce(u.at, coalesce($1, z.clock) + u.delay * interval '1 microsecond') AS run_at, z.clock
  FROM z CROSS JOIN unnest($2::uuid[], $3::int2[], $4::int2[], $5::int4[], $6::int4[], $7::timestamptz[],
    $8::int8[], $9::int4[], $10::bytea[], $12::int4[], $13::jsonb[], $14::jsonb[], $15::jsonb[], $16::int2[])
    AS u(pack, first, n, lane, kind, at, delay, max_attempts, payload, ends_at, options, metadata, tags,
      ready_n)
  WHERE NOT EXISTS (SELECT FROM taken)
), p AS (
  INSERT INTO ergon.pack (pack, run_at, created_at, lane, kind, max_attempts, first, n, late, payload,
    ends, options, metadata, tags)
  SELECT pack, run_at, created_at, lane, kind, max_attempts, first, n, run_at < clock, payload,
    CASE WHEN n > 1 THEN ($11::int4[])[ends_at + 1:ends_at + n] END, options, metadata, tags
  FROM i
), r AS (
  INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
  SELECT run_at, pack, lane, kind, 0, first, ready_n, first, run_at < clock, false
  FROM i WHERE ready_n > 0
), d AS (
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  SELECT u.queue, u.n, 0, 0, 0, 0 FROM unnest($20::int4[], $21::int4[]) AS u(queue, n)
  WHERE NOT EXISTS (SELECT FROM taken)
), j AS (
  INSERT INTO ergon.journal (at, events, event, pack, first, n, lane, kind, attempt, instant)
  SELECT min(i.created_at), sum(i.ready_n), '{1}', array_agg(i.pack), array_agg(i.first), array_agg(i.ready_n),
    array_agg(i.lane), array_agg(i.kind), '{0}', array_agg(i.run_at)
  FROM i WHERE i.ready_n > 0 AND EXISTS (SELECT FROM ergon.watched)
  HAVING count(*) > 0
  RETURNING 1
)
SELECT NOT EXISTS (SELECT FROM taken) AS stored, EXISTS (SELECT FROM j) AS recorded
