-- Adds deltas to the counters: at most $1 of them, from those behind the place $2 on.
--
-- Two at once wait for each other, and add each delta once. Answers how many were seen, how many were
-- added, the place of the last, and how large the table is, with its dead rows.
--
-- Index: count (queue); delta is read in the order of its places. Caller: keeper/counters.rs.
WITH seen AS MATERIALIZED (
  SELECT ctid AS tid FROM ergon.delta WHERE ctid > $2::text::tid LIMIT $1::int8
), d AS MATERIALIZED (
  DELETE FROM ergon.delta WHERE ctid = ANY (ARRAY (SELECT tid FROM seen)) RETURNING *
), c AS (
  INSERT INTO ergon.count AS c (queue, waiting, running, completed, failed, cancelled)
  SELECT queue, sum(waiting), sum(running), sum(completed), sum(failed), sum(cancelled)
  FROM d GROUP BY queue ORDER BY queue
  ON CONFLICT (queue) DO UPDATE SET waiting = c.waiting + excluded.waiting,
    running = c.running + excluded.running, completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled
)
SELECT (SELECT count(*) FROM seen) AS seen, (SELECT count(*) FROM d) AS folded,
  (SELECT tid::text FROM seen ORDER BY tid DESC LIMIT 1) AS last, pg_relation_size('ergon.delta') AS bytes
