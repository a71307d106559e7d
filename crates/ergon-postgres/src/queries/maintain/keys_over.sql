-- Removes unique keys that have been free for an hour: at most $1.
--
-- Index: uniq (until). Caller: keeper/sweep.rs.
DELETE FROM ergon.uniq WHERE ctid = ANY (ARRAY (
  SELECT q.ctid FROM ergon.uniq q WHERE q.until < (SELECT clock_timestamp() - interval '1 hour')
  ORDER BY q.until LIMIT $1::int8))
