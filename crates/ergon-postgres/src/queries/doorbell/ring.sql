-- Tells everybody who listens: $1 channels, $2 messages. What is told need not survive a crash, so nobody
-- waits for the disk.
--
-- Index: none. Caller: doorbell/line.rs.
SELECT pg_notify(u.channel, u.message), set_config('synchronous_commit', 'off', true)
FROM unnest($1::text[], $2::text[]) AS u(channel, message)
