-- Makes queues known and reads their numbers: $1 names.
--
-- Index: queue (name). Caller: name.rs.
WITH new AS (
  INSERT INTO ergon.queue (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING RETURNING id, name
)
SELECT id, name FROM new UNION ALL SELECT id, name FROM ergon.queue WHERE name = ANY ($1)
