-- Reads who holds unique keys: $1 hashes, $2 the instant, or null for the clock's.
--
-- Index: uniq (hash). Caller: enqueue/careful.rs.
SELECT u.hash, q.pack, q.off, coalesce(q.until <= coalesce($2, clock_timestamp()), false) AS is_over
FROM unnest($1::bytea[]) AS u(hash)
CROSS JOIN LATERAL (SELECT * FROM ergon.uniq q WHERE q.hash = u.hash LIMIT 1) q
