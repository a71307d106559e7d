-- Changes a queue, which begins to exist with it: $1 its name, $2 whether claims pass it by, or null.
--
-- Index: queue (name). Caller: control.rs.
INSERT INTO ergon.queue AS q (name, paused) VALUES ($1, coalesce($2, false))
ON CONFLICT (name) DO UPDATE SET paused = coalesce($2, q.paused)
