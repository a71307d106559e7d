-- Says in the journal that recording began anew: $1 the virtual transactions that were under way when it
-- did, and still are.
--
-- Index: none, one row. Caller: observe/watch.rs.
SELECT ergon.watch_anew($1)
