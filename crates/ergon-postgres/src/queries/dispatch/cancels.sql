-- Reads which of these tasks were asked to stop: $1 packs, $2 offsets.
--
-- Index: task (pack, off). Caller: dispatch/beat.rs.
SELECT u.pack, u.off
FROM unnest($1::uuid[], $2::int2[]) AS u(pack, off)
CROSS JOIN LATERAL (
  SELECT t.cancel_requested FROM ergon.task t WHERE t.pack = u.pack AND t.off = u.off LIMIT 1
) t
WHERE t.cancel_requested
