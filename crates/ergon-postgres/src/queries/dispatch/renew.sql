-- Renews leases, if they stand as they were read: $1 tokens, $2 parts, $3 versions, $4 the instant, or null
-- for the clock's, $5 for how many microseconds. Answers those that it renewed.
--
-- A lease that somebody holds locked is passed by: a transaction of the application that finishes its
-- task may take long, and the others must not wait for it.
--
-- Index: lease (token, part). Caller: dispatch/beat.rs.
WITH free AS MATERIALIZED (
  SELECT l.token, l.part
  FROM unnest($1::int8[], $2::int8[], $3::int4[]) AS u(token, part, version)
  JOIN ergon.lease l ON l.token = u.token AND l.part = u.part AND l.version = u.version
  FOR UPDATE OF l SKIP LOCKED
)
UPDATE ergon.lease l SET until = coalesce($4, clock_timestamp()) + $5::int8 * interval '1 microsecond'
FROM free
WHERE l.token = free.token AND l.part = free.part
RETURNING l.token, l.part
