-- Tells everybody who listens: $1 channels, $2 messages. Changes no setting, since it is also part of
-- transactions of the application, which have to be written to disk when they are committed.
--
-- Index: none. Caller: doorbell/line.rs, transaction.rs.
SELECT pg_notify(u.channel, u.message) FROM unnest($1::text[], $2::text[]) AS u(channel, message)
