-- Records what happened to a server, if somebody watches: $1 the server, $2 the number of the event, $3 what it
-- carries, or null. Says whether it did.
--
-- Index: none. Caller: observe.rs.
WITH j AS (
  INSERT INTO ergon.journal (at, server, events, event, note)
  SELECT clock_timestamp(), $1::uuid, 1, ARRAY[$2::int2], $3::jsonb WHERE EXISTS (SELECT FROM ergon.watched)
  RETURNING 1
)
SELECT EXISTS (SELECT FROM j) AS recorded
