-- Removes everything that the first schema made; tasks are lost.
DROP TABLE ergon.leader, ergon.delta, ergon.count, ergon.uniq, ergon.task, ergon.settled, ergon.lease,
  ergon.ready, ergon.pack, ergon.lane, ergon.kind, ergon.queue;
DROP SEQUENCE ergon.token;
DROP FUNCTION ergon.instant(bigint), ergon.insist(boolean);
