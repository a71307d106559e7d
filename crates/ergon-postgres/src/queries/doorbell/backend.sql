-- Which process of the server serves this connection; and lets it commit without waiting for the
-- disk, since nothing that it writes is of any worth after a crash.
--
-- Index: none. Caller: doorbell/line.rs.
SELECT pg_backend_pid() AS pid, set_config('synchronous_commit', 'off', false)
