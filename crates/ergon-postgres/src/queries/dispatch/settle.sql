-- Records tasks that completed at their first attempt, if their leases stand as the caller knows them.
--
-- $1 the instant, or null for the clock's. Leases that end: $2 tokens, $3 versions. Leases of which some
-- tasks are left: $4 tokens, $5 versions, $6 where what is left begins in $8, $9 and $10, and $7 how many
-- ranges it is. Completed ranges: $11 token, $12 pack, $13 first, $14 how many, $15 lane, $16 queue, $17
-- retention in microseconds, $18 results, $19 where their ends begin in $20, or null for no results, $21 kind.
--
-- The fence is the delete or the update of the lease: whoever took tasks of it out in the meantime
-- counted its version up, and then nothing of it is recorded here. Answers the leases that stood.
--
-- Index: lease (token, part). Caller: dispatch.rs.
WITH t AS MATERIALIZED (
  SELECT coalesce($1, clock_timestamp()) AS now
), ended AS (
  DELETE FROM ergon.lease l USING unnest($2::int8[], $3::int4[]) AS u(token, version)
  WHERE l.token = u.token AND l.part = 0 AND l.version = u.version
  RETURNING l.token, l.started_at
), cut AS (
  UPDATE ergon.lease l SET version = l.version + 1, packs = ($8::uuid[])[u.at + 1:u.at + u.n],
    firsts = ($9::int2[])[u.at + 1:u.at + u.n], ns = ($10::int2[])[u.at + 1:u.at + u.n]
  FROM unnest($4::int8[], $5::int4[], $6::int4[], $7::int4[]) AS u(token, version, at, n)
  WHERE l.token = u.token AND l.part = 0 AND l.version = u.version
  RETURNING l.token, l.started_at
), held AS MATERIALIZED (
  SELECT token, started_at FROM ended UNION ALL SELECT token, started_at FROM cut
), done AS MATERIALIZED (
  SELECT u.*, held.started_at
  FROM unnest($11::int8[], $12::uuid[], $13::int2[], $14::int2[], $15::int4[], $16::int4[], $17::int8[],
      $18::bytea[], $19::int4[])
    AS u(token, pack, first, n, lane, queue, retention, results, ends_at)
  JOIN held USING (token)
), s AS (
  INSERT INTO ergon.settled (pack, token, started_at, finished_at, expires_at, lane, first, n, base,
    results, result_ends)
  SELECT pack, token, started_at, t.now, t.now + retention * interval '1 microsecond', lane, first, n, first,
    results, CASE WHEN results IS NOT NULL THEN ($20::int4[])[ends_at + 1:ends_at + n] END
  FROM done CROSS JOIN t
), d AS (
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  SELECT queue, 0, -sum(n), sum(n), 0, 0 FROM done GROUP BY queue
)
SELECT token, (
  SELECT EXISTS (SELECT FROM ergon.watched) AND ergon.record_completed((SELECT now FROM t),
    ARRAY (SELECT h.token FROM held h), ARRAY (SELECT h.started_at FROM held h),
    $11, $12, $13, $14, $15, $21)
) AS recorded
FROM held
