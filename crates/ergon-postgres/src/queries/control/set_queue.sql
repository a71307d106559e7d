-- Changes a queue that exists: $1 its name, $2 whether claims pass it by, or null. Says whether it was
-- otherwise before.
--
-- Index: queue (name). Caller: control.rs.
WITH old AS MATERIALIZED (
  SELECT q.id, q.paused FROM ergon.queue q WHERE q.name = $1 FOR UPDATE
), new AS (
  UPDATE ergon.queue q SET touched = true, paused = coalesce($2, old.paused)
  FROM old WHERE q.id = old.id
  RETURNING q.name, q.paused, q.paused <> old.paused AS is_changed
), j AS (
  INSERT INTO ergon.journal (at, events, event, note)
  SELECT clock_timestamp(), 1, ARRAY[CASE WHEN new.paused THEN 21 ELSE 22 END]::int2[],
    jsonb_build_array(jsonb_build_object('queue', new.name))
  FROM new WHERE new.is_changed AND EXISTS (SELECT FROM ergon.watched)
  RETURNING 1
)
SELECT new.is_changed, EXISTS (SELECT FROM j) AS recorded FROM new
