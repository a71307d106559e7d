-- Renews leases that renew.sql passed by, and waits for whoever holds them locked: the arguments are the same.
--
-- Index: lease (token, part). Caller: dispatch/beat.rs.
UPDATE ergon.lease l SET until = coalesce($4, clock_timestamp()) + $5::int8 * interval '1 microsecond'
FROM unnest($1::int8[], $2::int8[], $3::int4[]) AS u(token, part, version)
WHERE l.token = u.token AND l.part = u.part AND l.version = u.version
RETURNING l.token, l.part
