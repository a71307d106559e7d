-- Has recording begin anew, since a lease was renewed too late.
--
-- Index: none, one row. Caller: observe/watch.rs.
SELECT ergon.watch_late()
