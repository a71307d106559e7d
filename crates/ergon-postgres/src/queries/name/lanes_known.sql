-- Makes lanes known and reads their numbers: $1 queues, $2 priorities.
--
-- Index: lane (queue, priority). Caller: name.rs.
WITH u AS (
  SELECT * FROM unnest($1::int4[], $2::int2[]) AS u(queue, priority)
), new AS (
  INSERT INTO ergon.lane (queue, priority) SELECT queue, priority FROM u ON CONFLICT DO NOTHING
  RETURNING id, queue, priority
)
SELECT id, queue, priority FROM new
UNION ALL SELECT l.id, l.queue, l.priority FROM ergon.lane l JOIN u USING (queue, priority)
