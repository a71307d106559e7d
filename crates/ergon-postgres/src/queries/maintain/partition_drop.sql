-- Drops a sealed partition: $1 its name, unless more than $2 rows or $3 bytes of it live.
--
-- Index: settled (pack, first), task (pack, off), pack (pack, first); `ready` and `lease` are read to
-- their end. Caller: keeper/partitions.rs.
SELECT ergon.partition_drop($1::text, $2::int8, $3::int8) AS moved
