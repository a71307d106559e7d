-- Reads the leases of a server: $1 tokens, $2 the server.
--
-- Index: lease (token, part). Caller: dispatch/beat.rs.
SELECT l.token, l.part, l.version, l.cancels, l.packs, l.firsts, l.ns
FROM ergon.lease l WHERE l.token = ANY ($1::int8[]) AND l.server = $2
