-- Tells everybody who listens: $1 channels, $2 messages.
--
-- Index: none. Caller: doorbell/line.rs.
SELECT pg_notify(u.channel, u.message) FROM unnest($1::text[], $2::text[]) AS u(channel, message)
