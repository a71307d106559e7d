-- Which versions of the tables were made, and when.
--
-- Index: migration (version). Caller: migrate.rs.
SELECT version, name, (extract(epoch FROM applied_at) * 1000000)::int8 AS micros
FROM ergon.migration ORDER BY version
