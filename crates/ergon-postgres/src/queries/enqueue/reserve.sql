-- Makes room for new tasks, or fails as a whole when something has changed since it was read.
--
-- JSON: $1 keys that are over, $2 keys that are taken, with how long they are held; $3 rows of `pack` of which
-- a task is gone, and is enqueued again, and $4 the pieces of them that stay. $5 the instant, or null for the
-- clock's, $6 how many rows have to be met.
--
-- Index: uniq (hash), pack (pack, first). Caller: enqueue/careful.rs.
WITH t AS MATERIALIZED (
  SELECT coalesce($5, clock_timestamp()) AS now
), key_out AS (
  DELETE FROM ergon.uniq WHERE ctid = ANY (ARRAY (
    SELECT x.tid
    FROM jsonb_to_recordset($1) AS u(hash bytea, pack uuid, off int2)
    CROSS JOIN LATERAL (
      SELECT q.ctid AS tid FROM ergon.uniq q
      WHERE q.hash = u.hash AND q.pack = u.pack AND q.off = u.off
      LIMIT 1 FOR UPDATE
    ) x))
  RETURNING 1
), key_in AS (
  INSERT INTO ergon.uniq (hash, pack, until, off)
  SELECT u.hash, u.pack, t.now + u.period * interval '1 microsecond', u.off
  FROM t CROSS JOIN jsonb_to_recordset($2) AS u(hash bytea, pack uuid, off int2, period int8)
  WHERE (SELECT count(*) FROM key_out) >= 0
  ORDER BY u.hash
  ON CONFLICT DO NOTHING
  RETURNING 1
), pack_out AS (
  DELETE FROM ergon.pack p USING jsonb_to_recordset($3) AS u(pack uuid, first int2, n int2)
  WHERE p.pack = u.pack AND p.first = u.first AND p.n = u.n
  RETURNING p.*
), pack_left AS (
  INSERT INTO ergon.pack (pack, run_at, created_at, lane, kind, max_attempts, first, n, late, payload,
    ends, options, metadata, tags)
  SELECT p.pack, p.run_at, p.created_at, p.lane, p.kind, p.max_attempts, u.first, u.n, p.late,
    substr(p.payload, 1 + b.begins, p.ends[u.first - p.first + u.n] - b.begins),
    CASE WHEN u.n > 1 THEN ARRAY (
      SELECT e - b.begins FROM unnest(p.ends[u.first - p.first + 1:u.first - p.first + u.n])
        WITH ORDINALITY AS e(e, o) ORDER BY o)
    END, p.options, p.metadata, p.tags
  FROM jsonb_to_recordset($4) AS u(pack uuid, first int2, n int2)
  JOIN pack_out p ON p.pack = u.pack AND u.first >= p.first AND u.first + u.n <= p.first + p.n
  CROSS JOIN LATERAL (
    SELECT CASE WHEN u.first = p.first THEN 0 ELSE p.ends[u.first - p.first] END AS begins
  ) b
)
SELECT ergon.insist($6::int8 = (SELECT count(*) FROM key_out) + (SELECT count(*) FROM key_in)
  + (SELECT count(*) FROM pack_out))
