-- Reads leases whole, to take tasks out of them: $1 tokens.
--
-- Index: lease (token, part). Caller: change.rs.
SELECT l.token, l.part, l.version, l.packs, l.firsts, l.ns
FROM ergon.lease l WHERE l.token = ANY ($1::int8[])
