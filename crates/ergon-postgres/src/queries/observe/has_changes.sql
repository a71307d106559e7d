-- Whether there is anything to be read behind a place of the journal: what the snapshot $1 does not see. Or
-- whether a reader has to be told something: the journal has another number than $2, or the end of a
-- transaction of which it matters.
--
-- Index: journal (xid, id), journal_state (sole). Caller: observe/wait.rs.
WITH c AS MATERIALIZED (
  SELECT $1::text::pg_snapshot AS base
)
SELECT s.number <> $2 OR pg_snapshot_xmax(c.base) <= s.floor
  OR EXISTS (SELECT FROM ergon.journal j WHERE j.xid >= (SELECT pg_snapshot_xmax(c.base) FROM c))
  OR EXISTS (SELECT FROM ergon.journal j WHERE j.xid = ANY (ARRAY (SELECT pg_snapshot_xip(c.base) FROM c)))
  OR EXISTS (SELECT FROM pg_snapshot_xip(c.base) AS x
    WHERE CASE WHEN (x <= s.floor OR x = ANY (s.old)) AND pg_visible_in_snapshot(x, pg_current_snapshot())
      -- The status of a transaction of the future is an error.
      THEN pg_xact_status(x) IS DISTINCT FROM 'aborted' ELSE false END) AS has_changes
FROM c CROSS JOIN ergon.journal_state s WHERE s.sole
