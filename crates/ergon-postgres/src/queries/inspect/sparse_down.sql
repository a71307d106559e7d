-- Reads ids behind one, in their order backwards, of tasks that are not merely completed: $1 pack and $2 offset of the id, $3 how
-- many; whether those are wanted that $4 wait, $5 run, $6 failed, $7 were cancelled.
--
-- Reads all of `ready` and `lease`: `ready` only when little waits. Index: task (phase, pack, off).
-- Caller: inspect/list.rs.
SELECT c.pack, c.off FROM (
  (SELECT r.pack, o::int2 AS off
    FROM ergon.ready r CROSS JOIN LATERAL generate_series(r.first, r.first + r.n - 1) o
    WHERE $4 AND (r.pack, o) < ($1::uuid, $2::int4)
    ORDER BY r.pack DESC, o DESC LIMIT $3::int8)
  UNION ALL
  (SELECT x.pack, o::int2
    FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
    CROSS JOIN LATERAL generate_series(x.first, x.first + x.n - 1) o
    WHERE $5 AND (x.pack, o) < ($1::uuid, $2::int4)
    ORDER BY x.pack DESC, o DESC LIMIT $3::int8)
  UNION ALL
  (SELECT t.pack, t.off FROM ergon.task t
    WHERE $6 AND t.phase = 3 AND (t.pack, t.off) < ($1::uuid, $2::int4)
    ORDER BY t.pack DESC, t.off DESC LIMIT $3::int8)
  UNION ALL
  (SELECT t.pack, t.off FROM ergon.task t
    WHERE $7 AND t.phase = 4 AND (t.pack, t.off) < ($1::uuid, $2::int4)
    ORDER BY t.pack DESC, t.off DESC LIMIT $3::int8)
) c
ORDER BY c.pack DESC, c.off DESC
LIMIT $3::int8
