-- Renews leases, if they stand as they were read: $1 tokens, $2 parts, $3 versions, $4 the instant, or null
-- for the clock's, $5 for how many microseconds.
--
-- Index: lease (token, part). Caller: dispatch/beat.rs.
UPDATE ergon.lease l SET until = coalesce($4, clock_timestamp()) + $5::int8 * interval '1 microsecond'
FROM unnest($1::int8[], $2::int4[], $3::int4[]) AS u(token, part, version)
WHERE l.token = u.token AND l.part = u.part AND l.version = u.version
RETURNING 1
