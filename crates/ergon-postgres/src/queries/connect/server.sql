-- What the server is, whether it keeps what it acknowledges, and what it has of the schema.
--
-- $1 the schema.
--
-- Index: pg_namespace (nspname), pg_class (relname, relnamespace); the unlogged tables are looked for
-- among those of the schema by a scan of pg_class, once a connect. Caller: connect.rs.
SELECT
  current_setting('server_version_num')::int4 AS version_number,
  current_setting('server_version') AS version,
  pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS read_only,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('server_encoding') AS encoding,
  (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS micros,
  EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'migration'
  ) AS migrated,
  (
    SELECT string_agg(c.relname, ', ' ORDER BY c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 'p'
  ) AS unlogged
