-- Ends the watch under a name: $1. Not while somebody else begins one in the belief that this one goes on.
--
-- Index: watcher (name), journal_state (sole). Caller: observe.rs.
WITH locked AS MATERIALIZED (
  SELECT s.sole FROM ergon.journal_state s WHERE s.sole FOR UPDATE
), gone AS (
  DELETE FROM ergon.watcher w WHERE w.name = $1 AND (SELECT sole FROM locked) RETURNING 1
)
SELECT EXISTS (SELECT FROM gone) AS was_there
