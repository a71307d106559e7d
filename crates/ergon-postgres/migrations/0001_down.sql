-- Removes everything that the first schema made; tasks are lost.
DROP FUNCTION ergon.enqueue(text, jsonb, text, int, timestamptz, int, jsonb, text[]);
DROP VIEW ergon.partition, ergon.watched;
DROP TABLE ergon.leader, ergon.delta, ergon.count, ergon.uniq, ergon.task, ergon.settled, ergon.lease,
  ergon.ready, ergon.pack, ergon.lane, ergon.kind, ergon.queue, ergon.revived,
  ergon.document, ergon.report, ergon.watcher, ergon.journal, ergon.journal_state;
DROP SEQUENCE ergon.token;
DROP FUNCTION ergon.instant(bigint), ergon.insist(boolean), ergon.is_free(int, boolean, uuid, int, int), ergon.pack_bound(timestamptz),
  ergon.pack_time(uuid), ergon.note_revived(), ergon.partition_missing(bigint), ergon.partition_ahead(bigint),
  ergon.partition_seal(text), ergon.partition_drop(text, bigint, bigint), ergon.delta_compact(),
  ergon.watch(text, bigint, text, bigint), ergon.watch_late(), ergon.watch_anew(text[]), ergon.journal_reset(),
  ergon.record_enqueued(timestamptz, uuid, smallint, int, int, timestamptz),
  ergon.record_completed(timestamptz, bigint[], timestamptz[], bigint[], uuid[], smallint[], smallint[], int[], int[]);
