-- Begins a migration. What holds a lock that it needs has a moment to end; then it gives way and
-- tries again, so that it never queues statements of others behind itself for long.
--
-- Index: none, reads no table. Caller: migrate.rs.
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = '3s';
SET LOCAL statement_timeout = '10min';
