-- Whether the session is outside of any transaction.
--
-- Outside, the statement begins a transaction of its own, at its own instant; inside, the transaction
-- began with an earlier message. Holds by the simple protocol alone: by the extended one the
-- transaction begins with the parsing of the statement.
--
-- Index: none, reads no table. Caller: database.rs.
SELECT now() = statement_timestamp()
