-- Whether the schema exists, and whether it has the table of versions.
--
-- $1 the schema.
--
-- Index: pg_namespace (nspname), pg_class (relname, relnamespace). Caller: migrate.rs.
SELECT
  EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1) AS has_schema,
  EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'migration'
  ) AS has_table
