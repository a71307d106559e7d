-- Makes kinds known and reads their numbers: $1 names.
--
-- Index: kind (name). Caller: name.rs.
WITH new AS (
  INSERT INTO ergon.kind (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING RETURNING id, name
)
SELECT id, name FROM new UNION ALL SELECT id, name FROM ergon.kind WHERE name = ANY ($1)
