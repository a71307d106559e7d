-- Removes documents that have expired, at most $1 of them.
--
-- Index: document (expires_at). Caller: document.rs.
DELETE FROM ergon.document WHERE ctid = ANY (ARRAY (
  SELECT d.ctid FROM ergon.document d WHERE d.expires_at <= clock_timestamp()
  ORDER BY d.expires_at LIMIT $1::int8 FOR UPDATE SKIP LOCKED))
