-- Reads documents as documents_up.sql does, but from the last key to the first.
--
-- Index: document (space, key). Caller: document.rs.
SELECT key, version, body, expires_at
FROM (
  SELECT d.*, sum(octet_length(d.body)) OVER (ORDER BY d.key DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    AS before
  FROM (
    SELECT key, version, body, expires_at FROM ergon.document
    WHERE space = $1::int2 AND key >= $2::bytea AND ($3::bytea IS NULL OR key < $3)
      AND (expires_at IS NULL OR expires_at > clock_timestamp())
    ORDER BY key DESC LIMIT $4::int8
  ) d
) p
WHERE before IS NULL OR before <= $5::int8
ORDER BY key DESC
