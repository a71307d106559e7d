-- The end of the journal. What ended before it is written to disk before this is answered: after a crash of
-- the server numbers of transactions that were not are given again, and a cursor would pass over those.
--
-- $1 whether to see to that.
--
-- Index: journal_state (sole). Caller: observe/read.rs.
SELECT s.number, pg_current_snapshot()::text AS present, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline,
  CASE WHEN $1 AND pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()
    THEN pg_logical_emit_message(true, 'ergon', '') IS NOT NULL END AS is_flushed
FROM ergon.journal_state s WHERE s.sole
