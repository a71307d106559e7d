-- Reads what happened behind a place of the journal: what the snapshot $1 does not see, and the snapshot $2
-- does, or this statement's own when that is null, of that what is numbered behind $3; about $4 events; none
-- unless the journal has the number $5.
--
-- Whatever is numbered how: what a snapshot does not see has a number of its xip list, or one from its xmax
-- on, and there the search begins. The events of one answer are in the order of their rows, and what a
-- later answer brings could not be known of when the earlier snapshot was taken.
--
-- Answers one row for each row of the journal, or one without any; the first one tells the rest. `rest`: the
-- limit cut something off; `later`: there is more behind $2. What ended before is on disk before this is
-- answered: see latest.sql.
--
-- Index: journal (xid, id), journal (id), journal_state (sole). Caller: observe/read.rs.
WITH c AS MATERIALIZED (
  SELECT $1::text::pg_snapshot AS base, pg_current_snapshot() AS present,
    coalesce($2::text::pg_snapshot, pg_current_snapshot()) AS target
), s AS MATERIALIZED (
  SELECT s.* FROM ergon.journal_state s WHERE s.sole
), ended AS MATERIALIZED (
  -- Transactions that were under way then, and are not any more.
  SELECT x AS xid
  FROM c CROSS JOIN LATERAL pg_snapshot_xip(c.base) AS x
  -- The status of a transaction of the future is an error.
  WHERE CASE WHEN pg_visible_in_snapshot(x, c.target) AND x < pg_snapshot_xmax(c.present)
    THEN pg_xact_status(x) IS DISTINCT FROM 'aborted' ELSE false END
), low AS MATERIALIZED (
  SELECT CASE WHEN $3::int8 > 0 THEN $3 ELSE least(
    (SELECT min(j.id + 0) FROM ergon.journal j WHERE j.xid >= (SELECT pg_snapshot_xmax(c.base) FROM c)),
    (SELECT min(j.id + 0) FROM ergon.journal j WHERE j.xid = ANY (ARRAY (SELECT xid FROM ended)))) - 1
  END AS id
), page AS MATERIALIZED (
  SELECT j.*
  FROM ergon.journal j
  WHERE j.id > (SELECT id FROM low)
    AND NOT pg_visible_in_snapshot(j.xid, (SELECT base FROM c))
    AND pg_visible_in_snapshot(j.xid, (SELECT target FROM c))
    AND (SELECT s.number = $5 FROM s)
  ORDER BY j.id
  LIMIT $4::int8 + 1
), cut AS MATERIALIZED (
  SELECT o.* FROM (
    SELECT page.*, row_number() OVER (ORDER BY id) AS place, coalesce(sum(events) OVER (ORDER BY id
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM page
  ) o WHERE o.before < $4 AND o.place <= $4
), head AS MATERIALIZED (
  SELECT 1::int8 AS place, s.number, c.target::text AS target,
    left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline,
    pg_snapshot_xmax(c.base) > pg_snapshot_xmax(c.present)
      OR pg_snapshot_xmax(c.target) > pg_snapshot_xmax(c.present) AS is_future,
    s.floor_id > $3 AND (pg_snapshot_xmax(c.base) <= s.floor
      OR EXISTS (SELECT FROM ended WHERE ended.xid <= s.floor)) AS is_expired,
    -- Or somebody began to watch, and died before that was finished: it is not known from where on.
    $3 = 0 AND EXISTS (SELECT FROM ended WHERE ended.xid = ANY (s.old)) OR s.is_pending AS is_unrecorded,
    EXISTS (SELECT FROM ergon.watcher w WHERE w.until > clock_timestamp()) AS is_watched,
    (SELECT count(*) FROM page) > (SELECT count(*) FROM cut) AS rest,
    $2 IS NOT NULL AND (
      EXISTS (SELECT FROM ergon.journal j WHERE j.xid >= (SELECT pg_snapshot_xmax(c.target) FROM c))
      OR EXISTS (SELECT FROM ergon.journal j
        WHERE j.xid = ANY (ARRAY (SELECT pg_snapshot_xip(c.target) FROM c)))) AS later,
    CASE WHEN $2 IS NULL AND pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()
      AND (EXISTS (SELECT FROM page) OR pg_snapshot_xmax(c.base) <= s.floor OR EXISTS (SELECT FROM ended))
      THEN pg_logical_emit_message(true, 'ergon', '') IS NOT NULL END AS is_flushed
  FROM c CROSS JOIN s
)
SELECT head.number, head.target, head.timeline, head.is_future, head.is_expired,
  head.is_unrecorded, head.is_watched, head.rest, head.later, cut.id, cut.at, cut.event, cut.pack, cut.first, cut.n, cut.lane, cut.kind, cut.attempt,
  cut.instant, cut.server, cut.note
FROM cut FULL JOIN head ON head.place = cut.place
ORDER BY cut.id
