-- Carries a change of single tasks out, or fails as a whole when something of it has changed since it
-- was read. All lists are JSON; instants are microseconds since 1970.
--
-- Rows that leave: $1 of `ready`, $3 of `lease`, $5 of `settled`, $8 of `task`, $10 of `uniq`. Rows that
-- come: $2 pieces that are left of ranges of `ready`, $6 pieces of `settled`, $7 new ones, $9 of `task`, of which
-- those that wait go to `ready` too, $11 deltas. Rows that change: $4 of `lease`. $12 is how many rows have
-- to be met. $13 what happened, in order, and $14 when: the journal takes it when all others are done, so
-- that it is numbered after whatever they waited for.
--
-- A row that leaves is looked up by its key and locked, then deleted by its place: so no plan can read a
-- whole table, whatever the planner believes of it. A sub-select that counts what left lets the old
-- row go first where the new one may have its key.
--
-- Index: the primary keys. Caller: change.rs.
WITH z AS MATERIALIZED (
  SELECT pg_current_xact_id() AS xid, clock_timestamp() AS clock
), ready_out AS (
  DELETE FROM ergon.ready WHERE ctid = ANY (ARRAY (
    SELECT x.tid
    FROM jsonb_to_recordset($1) AS u(lane int, late boolean, run_at int8, pack uuid, first int2, n int2)
    CROSS JOIN LATERAL (
      SELECT r.ctid AS tid FROM ergon.ready r
      WHERE r.lane = u.lane AND r.late = u.late AND r.run_at = ergon.instant(u.run_at) AND r.pack = u.pack
        AND r.first = u.first AND r.n = u.n
      LIMIT 1 FOR UPDATE
    ) x))
  RETURNING 1
), ready_left AS (
  INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
  SELECT ergon.instant(u.run_at), u.pack, u.lane, u.kind, 0, u.first, u.n, u.base, u.late, false
  FROM jsonb_to_recordset($2)
    AS u(lane int, late boolean, run_at int8, pack uuid, first int2, n int2, kind int, base int2)
  WHERE (SELECT count(*) FROM ready_out) >= 0
), lease_out AS (
  DELETE FROM ergon.lease l
  USING jsonb_to_recordset($3) AS u(token int8, part int8, version int, until int8)
  WHERE l.token = u.token AND l.part = u.part AND l.version = u.version
    AND (u.until IS NULL OR l.until = ergon.instant(u.until))
  RETURNING 1
), lease_cut AS (
  UPDATE ergon.lease l SET version = l.version + 1, cancels = l.cancels + u.cancels,
    packs = coalesce(u.packs, l.packs), firsts = coalesce(u.firsts, l.firsts), ns = coalesce(u.ns, l.ns)
  FROM jsonb_to_recordset($4) AS u(token int8, part int8, version int, until int8, cancels int,
    packs uuid[], firsts int2[], ns int2[])
  WHERE l.token = u.token AND l.part = u.part AND l.version = u.version
    AND (u.until IS NULL OR l.until = ergon.instant(u.until))
  RETURNING 1
), settled_out AS (
  DELETE FROM ergon.settled WHERE ctid = ANY (ARRAY (
    SELECT x.tid
    FROM jsonb_to_recordset($5) AS u(pack uuid, first int2, n int2)
    CROSS JOIN LATERAL (
      SELECT s.ctid AS tid FROM ergon.settled s
      WHERE s.pack = u.pack AND s.first = u.first AND s.n = u.n
      LIMIT 1 FOR UPDATE
    ) x))
  RETURNING *
), settled_left AS (
  INSERT INTO ergon.settled (pack, token, started_at, finished_at, expires_at, lane, first, n, base,
    results, result_ends)
  SELECT s.pack, s.token, s.started_at, s.finished_at, s.expires_at, s.lane, u.first, u.n, s.base, s.results,
    s.result_ends
  FROM jsonb_to_recordset($6) AS u(pack uuid, first int2, n int2)
  JOIN settled_out s ON s.pack = u.pack AND u.first >= s.first AND u.first + u.n <= s.first + s.n
), settled_new AS (
  INSERT INTO ergon.settled (pack, token, started_at, finished_at, expires_at, lane, first, n, base,
    results, result_ends)
  SELECT u.pack, u.token, ergon.instant(u.started_at), ergon.instant(u.finished_at),
    ergon.instant(u.expires_at), u.lane, u.off, 1, u.off, u.result,
    CASE WHEN u.result IS NOT NULL THEN ARRAY[length(u.result)] END
  FROM jsonb_to_recordset($7) AS u(pack uuid, off int2, token int8, started_at int8, finished_at int8,
    expires_at int8, lane int, result bytea)
), task_out AS (
  DELETE FROM ergon.task WHERE ctid = ANY (ARRAY (
    SELECT x.tid
    FROM jsonb_to_recordset($8) AS u(pack uuid, off int2, version int8)
    CROSS JOIN LATERAL (
      SELECT t.ctid AS tid FROM ergon.task t
      WHERE t.pack = u.pack AND t.off = u.off AND t.version = u.version
      LIMIT 1 FOR UPDATE
    ) x))
  RETURNING 1
), task AS MATERIALIZED (
  SELECT u.*, ergon.instant(u.due) AS run_at, ergon.instant(u.due) < z.clock AS late
  FROM z CROSS JOIN jsonb_to_recordset($9) AS u(pack uuid, off int2, version int8, waits boolean, base int2,
    kind int, lane int, due int8, attempt int, max_attempts int, crash_count int, token int8,
    settled_token int8, settled_kind int2, phase int2, cancel_requested boolean, started_at int8,
    finished_at int8, expires_at int8, result bytea, errors jsonb)
), task_new AS (
  INSERT INTO ergon.task (pack, off, version, lane, phase, cancel_requested, run_at, late, attempt,
    max_attempts, crash_count, token, settled_token, settled_kind, started_at, finished_at, expires_at,
    result, errors)
  SELECT pack, off, version, lane, phase, cancel_requested, run_at, late, attempt,
    max_attempts, crash_count, token, settled_token, settled_kind, ergon.instant(started_at),
    ergon.instant(finished_at), ergon.instant(expires_at), result, errors
  FROM task WHERE (SELECT count(*) FROM task_out) >= 0
  ON CONFLICT DO NOTHING
  RETURNING 1
), ready_new AS (
  INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
  SELECT run_at, pack, lane, kind, attempt, off, 1, base, late, true
  FROM task WHERE waits AND (SELECT count(*) FROM ready_out) >= 0
), uniq_out AS (
  DELETE FROM ergon.uniq WHERE ctid = ANY (ARRAY (
    SELECT x.tid
    FROM jsonb_to_recordset($10) AS u(hash bytea, pack uuid, off int2)
    CROSS JOIN LATERAL (
      SELECT q.ctid AS tid FROM ergon.uniq q
      WHERE q.hash = u.hash AND q.pack = u.pack AND q.off = u.off
      LIMIT 1 FOR UPDATE
    ) x))
), d AS (
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  SELECT * FROM jsonb_to_recordset($11)
    AS u(queue int, waiting int, running int, completed int, failed int, cancelled int)
), j AS (
  INSERT INTO ergon.journal (at, events, event, pack, first, n, lane, kind, attempt, instant, note)
  SELECT ergon.instant($14::int8), count(*), array_agg(u.event), array_agg(u.pack), array_agg(u.off), '{1}',
    array_agg(u.lane), array_agg(u.kind), array_agg(u.attempt), array_agg(ergon.instant(u.instant)),
    CASE WHEN count(u.note) > 0 THEN jsonb_agg(u.note) END
  FROM jsonb_to_recordset($13) AS u(event int2, pack uuid, off int2, lane int, kind int, attempt int,
    instant int8, note jsonb)
  WHERE EXISTS (SELECT FROM ergon.watched) AND (SELECT count(*) FROM ready_out)
    + (SELECT count(*) FROM lease_out) + (SELECT count(*) FROM lease_cut) + (SELECT count(*) FROM settled_out)
    + (SELECT count(*) FROM task_out) + (SELECT count(*) FROM task_new) >= 0
  HAVING count(*) > 0
  RETURNING 1
)
SELECT ergon.insist($12::int8 = (SELECT count(*) FROM ready_out) + (SELECT count(*) FROM lease_out)
  + (SELECT count(*) FROM lease_cut) + (SELECT count(*) FROM settled_out) + (SELECT count(*) FROM task_out)
  + (SELECT count(*) FROM task_new)) AS is_done, EXISTS (SELECT FROM j) AS recorded
