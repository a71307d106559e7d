-- Reads leases that are over, the earliest first: $1 the instant, or null for the clock's, $2 how many. One that
-- is locked is passed by: a transaction that finishes its task is open.
--
-- Reads the whole table, which holds one row a claim under way. Caller: maintain.rs.
SELECT l.token, l.part, l.until, l.packs, l.firsts, l.ns
FROM ergon.lease l
WHERE l.until <= coalesce($1, clock_timestamp())
ORDER BY l.until
LIMIT $2::int8
FOR UPDATE SKIP LOCKED
