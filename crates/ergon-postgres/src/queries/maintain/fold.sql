-- Adds deltas to the counters: at most $1 of them, passing by those that another fold holds.
--
-- Index: count (queue). Caller: keeper.rs.
WITH some AS MATERIALIZED (
  SELECT ctid AS tid FROM ergon.delta LIMIT $1::int8 FOR UPDATE SKIP LOCKED
), d AS MATERIALIZED (
  DELETE FROM ergon.delta WHERE ctid = ANY (ARRAY (SELECT tid FROM some)) RETURNING *
), c AS (
  INSERT INTO ergon.count AS c (queue, waiting, running, completed, failed, cancelled)
  SELECT queue, sum(waiting), sum(running), sum(completed), sum(failed), sum(cancelled)
  FROM d GROUP BY queue ORDER BY queue
  ON CONFLICT (queue) DO UPDATE SET waiting = c.waiting + excluded.waiting,
    running = c.running + excluded.running, completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled
)
SELECT count(*) AS folded FROM d
