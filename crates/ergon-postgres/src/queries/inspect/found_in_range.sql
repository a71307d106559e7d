-- Reads the tasks of runs of ids, in their order, which are in one of some states: $1 whether with
-- their payloads, $2 packs, $3 first and $4 last offset of each run, or the other way round for the
-- newest first, $5 the step from one offset to the next, $6 the instant, or null for the clock's, $7 how
-- many at the most, $8 to $14 whether tasks are wanted that are scheduled, pending, running, retrying,
-- completed, failed, cancelled.
--
-- Index: see place.sql, which follows in place of the line that names it. Caller: inspect/list.rs.
WITH ranges AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::int4[], $4::int4[]) WITH ORDINALITY AS g(pack, one, two, ord)
), u AS (
  SELECT ranges.ord, ranges.pack, o::int2 AS off
  FROM ranges CROSS JOIN LATERAL generate_series(ranges.one, ranges.two, $5::int4) o
), running AS MATERIALIZED (
  SELECT l.token, l.part, l.version, l.until, l.started_at, x.pack, x.first, x.n
  FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
  WHERE x.pack = ANY ($2)
), t AS MATERIALIZED (
  SELECT coalesce($6, clock_timestamp()) AS now
)
SELECT * FROM (
-- place.sql
) found
WHERE CASE
  WHEN s_token IS NOT NULL OR phase = 2 THEN $12
  WHEN phase = 3 THEN $13
  WHEN phase = 4 THEN $14
  WHEN l_token IS NOT NULL THEN $10
  WHEN r_first IS NULL THEN false
  WHEN coalesce(t_run_at, p_run_at) <= (SELECT now FROM t) THEN $9
  WHEN coalesce(attempt, 0) > 0 THEN $11
  ELSE $8
END
LIMIT $7::int8
