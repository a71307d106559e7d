-- Folds all deltas and leaves their table empty, whoever holds old snapshots.
--
-- Index: count (queue). Caller: keeper/counters.rs.
SELECT ergon.delta_compact() AS folded
