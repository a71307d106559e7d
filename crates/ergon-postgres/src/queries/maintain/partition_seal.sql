-- Lets what is inserted into a partition be noted from now on: $1 its name.
--
-- Index: none. Caller: keeper/partitions.rs.
SELECT ergon.partition_seal($1::text) AS is_sealed
