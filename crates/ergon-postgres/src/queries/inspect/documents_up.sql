-- Reads documents of the space $1 that have not expired, from the key $2 on and up to $3, or null, from the
-- first key to the last: at most $4 of them, and none more once their bodies exceed $5 bytes.
--
-- Index: document (space, key). Caller: document.rs.
SELECT key, version, body, expires_at
FROM (
  SELECT d.*, sum(octet_length(d.body)) OVER (ORDER BY d.key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    AS before
  FROM (
    SELECT key, version, body, expires_at FROM ergon.document
    WHERE space = $1::int2 AND key >= $2::bytea AND ($3::bytea IS NULL OR key < $3)
      AND (expires_at IS NULL OR expires_at > clock_timestamp())
    ORDER BY key LIMIT $4::int8
  ) d
) p
WHERE before IS NULL OR before <= $5::int8
ORDER BY key
