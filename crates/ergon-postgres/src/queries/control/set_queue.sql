-- Changes a queue, which begins to exist with it: $1 its name, $2 whether claims pass it by, or null.
--
-- Index: queue (name). Caller: control.rs.
INSERT INTO ergon.queue AS q (name, paused, touched) VALUES ($1, coalesce($2, false), true)
ON CONFLICT (name) DO UPDATE SET touched = true, paused = coalesce($2, q.paused)
