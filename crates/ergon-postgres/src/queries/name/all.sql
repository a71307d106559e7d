-- Reads every lane and every kind with its number; these are few.
--
-- Caller: name.rs.
SELECT l.id, q.name, l.queue, l.priority FROM ergon.lane l JOIN ergon.queue q ON q.id = l.queue
UNION ALL SELECT k.id, k.name, NULL, NULL FROM ergon.kind k
