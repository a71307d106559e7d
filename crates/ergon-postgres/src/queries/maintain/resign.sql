-- Gives the lead back: $1 who led, $2 in which term.
--
-- Index: leader (sole). Caller: keeper/seat.rs.
UPDATE ergon.leader SET until = clock_timestamp() WHERE server = $1::uuid AND term = $2::int8
