-- Makes the table of versions.
--
-- Index: makes migration (version). Caller: migrate.rs.
CREATE TABLE IF NOT EXISTS ergon.migration (
  version int PRIMARY KEY,
  name text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
