-- Records that a version was removed.
--
-- $1 its number.
--
-- Index: migration (version). Caller: migrate.rs.
DELETE FROM ergon.migration WHERE version = $1
