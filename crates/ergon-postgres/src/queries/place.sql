-- Fragment: where the tasks `u (ord, pack, off)` are and how they stand, with the leases `running`
-- to be searched. Its heads are found_by_id.sql, found_by_token.sql and found_in_range.sql.
--
-- Each place is looked at only when the ones before it were in vain.
--
-- Index: pack (pack, first), task (pack, off), settled (pack, first), ready (lane, late, run_at, pack,
-- first), report (pack, off). Caller: place.rs.
SELECT u.ord, clock_timestamp() AS clock, u.pack, u.off,
  p.lane AS p_lane, p.kind, p.run_at AS p_run_at, p.late AS p_late, p.created_at,
  p.max_attempts AS p_max_attempts, p.first AS p_first, p.n AS p_n, p.options, p.metadata, p.tags,
  CASE WHEN $1 THEN CASE WHEN p.n = 1 THEN p.payload
    WHEN u.off = p.first THEN substr(p.payload, 1, p.ends[1])
    ELSE substr(p.payload, 1 + p.ends[u.off - p.first],
      p.ends[u.off - p.first + 1] - p.ends[u.off - p.first])
  END END AS payload,
  t.version, t.lane AS t_lane, t.phase, t.cancel_requested, t.run_at AS t_run_at, t.late AS t_late,
  t.attempt, t.max_attempts AS t_max_attempts, t.crash_count, t.token AS t_token, t.settled_token,
  t.settled_kind, t.started_at AS t_started_at, t.finished_at AS t_finished_at,
  t.expires_at AS t_expires_at, t.result AS t_result, t.errors,
  s.first AS s_first, s.n AS s_n, s.token AS s_token, s.started_at AS s_started_at,
  s.finished_at AS s_finished_at, s.expires_at AS s_expires_at,
  CASE WHEN s.results IS NOT NULL AND s.result_ends[u.off - s.base + 1] >= 0 THEN
    CASE WHEN u.off = s.base THEN substr(s.results, 1, s.result_ends[1])
    ELSE substr(s.results,
      1 + greatest(s.result_ends[u.off - s.base], -1 - s.result_ends[u.off - s.base]),
      s.result_ends[u.off - s.base + 1]
        - greatest(s.result_ends[u.off - s.base], -1 - s.result_ends[u.off - s.base]))
    END
  END AS s_result,
  r.first AS r_first, r.n AS r_n, r.base AS r_base,
  l.token AS l_token, l.part, l.version AS l_version, l.until, l.started_at AS l_started_at,
  h.at AS h_at, h.done AS h_done, h.total AS h_total, h.message AS h_message
FROM u
JOIN LATERAL (
  SELECT * FROM ergon.pack p
  WHERE p.pack = u.pack AND p.first <= u.off ORDER BY p.first DESC LIMIT 1
) p ON p.first + p.n > u.off
LEFT JOIN LATERAL (
  SELECT * FROM ergon.task t WHERE t.pack = u.pack AND t.off = u.off LIMIT 1
) t ON true
LEFT JOIN LATERAL (
  SELECT * FROM ergon.settled s
  WHERE t.pack IS NULL AND s.pack = u.pack AND s.first <= u.off ORDER BY s.first DESC LIMIT 1
) s ON s.first + s.n > u.off
LEFT JOIN LATERAL (
  SELECT * FROM ergon.ready r
  WHERE s.pack IS NULL AND coalesce(t.phase, 0) = 0 AND r.lane = coalesce(t.lane, p.lane)
    AND r.late = coalesce(t.late, p.late) AND r.run_at = coalesce(t.run_at, p.run_at)
    AND r.pack = u.pack AND r.first <= u.off
  ORDER BY r.first DESC LIMIT 1
) r ON r.first + r.n > u.off
LEFT JOIN LATERAL (
  SELECT * FROM running
  WHERE s.pack IS NULL AND r.pack IS NULL AND coalesce(t.phase, 0) = 0 AND running.pack = u.pack
    AND running.first <= u.off AND running.first + running.n > u.off
  LIMIT 1
) l ON true
LEFT JOIN LATERAL (
  SELECT * FROM ergon.report h
  WHERE $1 AND l.token IS NOT NULL AND h.pack = u.pack AND h.off = u.off AND h.token = l.token
  LIMIT 1
) h ON true
