-- Which of some virtual transactions still go on, and which have a number, so that they wrote: $1.
--
-- Index: none; reads the locks of the server, some times for each time that recording begins.
-- Caller: observe/watch.rs.
SELECT l.virtualtransaction AS going, bool_or(l.locktype = 'transactionid') AS has_written
FROM pg_catalog.pg_locks l
WHERE l.virtualtransaction = ANY ($1) AND l.granted
GROUP BY 1
