-- Reads who watches.
--
-- Index: watcher (name). Caller: observe.rs.
SELECT w.name, nullif(w.until, 'infinity') AS until, w.reached
FROM ergon.watcher w WHERE w.until > clock_timestamp() AND $1
ORDER BY w.name
