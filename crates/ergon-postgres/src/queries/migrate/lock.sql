-- Lets one migration of a schema run at a time. Ends with the transaction, whatever becomes of it.
--
-- $1 the schema.
--
-- Index: none, reads no table. Caller: migrate.rs.
SELECT pg_advisory_xact_lock(hashtextextended('ergon migrate ' || $1, 0))
