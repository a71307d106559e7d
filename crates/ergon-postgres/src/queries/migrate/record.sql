-- Records that a version was made.
--
-- $1 its number, $2 its name.
--
-- Index: migration (version). Caller: migrate.rs.
INSERT INTO ergon.migration (version, name) VALUES ($1, $2)
