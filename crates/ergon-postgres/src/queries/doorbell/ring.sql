-- Tells everybody who listens what happened to which queues: $1 channel, $2 messages.
--
-- Index: none. Caller: doorbell/line.rs.
SELECT pg_notify($1, u.message) FROM unnest($2::text[]) AS u(message)
