-- Writes documents, each by itself, if what it expects is found. One that has expired counts as removed.
--
-- Per document: $1 space, $2 key, $3 what it expects (0 anything, 1 nothing, 2 a version), $4 the version,
-- $5 body, or null to remove it, $6 when it expires, or null. Answers the places, from 1, of those that
-- were done, with their versions. The keys of one call differ; those of one sort of write are locked in one
-- order.
--
-- Index: document (space, key). Caller: document.rs.
WITH t AS MATERIALIZED (
  SELECT clock_timestamp() AS now
), u AS MATERIALIZED (
  SELECT u.* FROM unnest($1::int2[], $2::bytea[], $3::int2[], $4::int8[], $5::bytea[], $6::timestamptz[])
    WITH ORDINALITY AS u(space, key, expect, version, body, expires_at, place)
  ORDER BY u.space, u.key
), anyhow AS (
  INSERT INTO ergon.document AS d (space, key, version, body, expires_at)
  SELECT space, key, 1, body, expires_at FROM u WHERE body IS NOT NULL AND expect = 0
  ON CONFLICT (space, key) DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at,
    version = CASE WHEN d.expires_at <= (SELECT now FROM t) THEN 1 ELSE d.version + 1 END
  RETURNING space, key, version
), fresh AS (
  INSERT INTO ergon.document AS d (space, key, version, body, expires_at)
  SELECT space, key, 1, body, expires_at FROM u WHERE body IS NOT NULL AND expect = 1
  ON CONFLICT (space, key) DO UPDATE
    SET body = excluded.body, expires_at = excluded.expires_at, version = 1
    WHERE d.expires_at <= (SELECT now FROM t)
  RETURNING space, key, version
), next AS (
  UPDATE ergon.document d SET body = u.body, expires_at = u.expires_at, version = d.version + 1
  FROM u
  WHERE u.body IS NOT NULL AND u.expect = 2 AND d.space = u.space AND d.key = u.key
    AND d.version = u.version AND (d.expires_at IS NULL OR d.expires_at > (SELECT now FROM t))
  RETURNING d.space, d.key, d.version
), gone AS (
  DELETE FROM ergon.document d USING u
  WHERE u.body IS NULL AND u.expect <> 1 AND d.space = u.space AND d.key = u.key
    AND (u.expect = 0
      OR d.version = u.version AND (d.expires_at IS NULL OR d.expires_at > (SELECT now FROM t)))
  RETURNING d.space, d.key, 0::int8 AS version
), done AS (
  SELECT * FROM anyhow UNION ALL SELECT * FROM fresh UNION ALL SELECT * FROM next
  UNION ALL SELECT * FROM gone
)
SELECT u.place, coalesce(done.version, 0) AS version
FROM u LEFT JOIN done ON done.space = u.space AND done.key = u.key
WHERE done.space IS NOT NULL
  -- What was not there need not be removed.
  OR u.body IS NULL AND u.expect = 0
  OR u.body IS NULL AND u.expect = 1 AND NOT EXISTS (
    SELECT FROM ergon.document d
    WHERE d.space = u.space AND d.key = u.key
      AND (d.expires_at IS NULL OR d.expires_at > (SELECT now FROM t)))
