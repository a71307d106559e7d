-- Takes the lead if nobody has it, or renews it: $1 who asks, $2 for how many microseconds, $3 the term
-- in which they lead, 0 if they do not.
--
-- Answers the term in which they lead now, 0 if another does, for how many microseconds that one still
-- does, and whether there is something to do. Writes nothing while another leads.
--
-- Index: leader (sole). Caller: keeper/seat.rs.
WITH z AS MATERIALIZED (
  SELECT clock_timestamp() AS now
), seen AS MATERIALIZED (
  SELECT l.term, l.server, l.until FROM ergon.leader l
), taken AS (
  INSERT INTO ergon.leader AS l (term, server, until)
  SELECT 1, $1::uuid, z.now + $2::int8 * interval '1 microsecond' FROM z
  WHERE NOT EXISTS (SELECT FROM seen s WHERE s.until > z.now AND (s.server <> $1 OR s.term <> $3::int8))
  ON CONFLICT (sole) DO UPDATE SET server = excluded.server, until = excluded.until,
    term = CASE WHEN l.server = excluded.server AND l.term = $3 THEN l.term ELSE l.term + 1 END
  WHERE l.until <= clock_timestamp() OR (l.server = $1 AND l.term = $3)
  RETURNING l.term
)
SELECT coalesce((SELECT term FROM taken), 0) AS term,
  coalesce((SELECT (extract(epoch FROM s.until - z.now) * 1000000)::int8 FROM seen s), 0) AS other,
  EXISTS (SELECT FROM ergon.delta) AS has_deltas, EXISTS (SELECT FROM ergon.report) AS has_reports,
  EXISTS (SELECT FROM ergon.watcher w WHERE w.until > z.now)
    OR coalesce((SELECT j.bytes > 0 FROM ergon.journal_state j WHERE j.sole), false) AS has_journal
FROM z
