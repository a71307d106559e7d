-- The virtual transactions that have looked whether somebody watches, or are about to: each holds a lock
-- on the table from before its first look to its end.
--
-- Index: none; reads the locks of the server, once for each time that recording begins.
-- Caller: observe/watch.rs.
SELECT DISTINCT l.virtualtransaction AS going
FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND l.relation = 'ergon.watcher'::regclass
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()
