-- The version of the tables; 0 when all of them were removed.
--
-- Index: migration (version). Caller: migrate.rs.
SELECT coalesce(max(version), 0)::int4 AS version FROM ergon.migration
