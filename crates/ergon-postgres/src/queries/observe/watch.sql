-- Watches, or goes on watching: $1 the name, $2 for how many microseconds, or null for until told otherwise,
-- $3 the place to be kept, or null, $4 how many watchers there may be.
--
-- Index: watcher (name). Caller: observe/watch.rs.
SELECT w.kept, w.is_full, w.covered, w.is_pending FROM ergon.watch($1, $2, $3, $4) w
