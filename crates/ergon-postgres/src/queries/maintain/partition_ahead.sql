-- Makes the partitions of this time and the next that are missing: $1 how many milliseconds each spans.
--
-- Index: pack_default (pack, first). Caller: keeper/partitions.rs.
SELECT ergon.partition_ahead($1::int8) AS made
