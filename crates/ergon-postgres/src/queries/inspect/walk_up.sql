-- Reads the rows of `pack` from an id on, and says which match: $1 pack and $2 offset of the id, $3 how many
-- rows; null for every: $4 kinds, $5 queues, $6 tags, $7 metadata, $8 the earliest and $9 the first too late
-- instant of their insert.
--
-- Index: pack (pack, first). Caller: inspect/list.rs.
SELECT p.pack, p.first, p.n,
  ($4::text[] IS NULL OR p.kind = ANY (ARRAY (SELECT k.id FROM ergon.kind k WHERE k.name = ANY ($4))))
  AND ($5::text[] IS NULL OR p.lane = ANY (ARRAY (
    SELECT l.id FROM ergon.lane l JOIN ergon.queue q ON q.id = l.queue WHERE q.name = ANY ($5))))
  AND ($6::jsonb IS NULL OR coalesce(p.tags @> $6, false))
  AND ($7::jsonb IS NULL OR coalesce(p.metadata @> $7, false))
  AND ($8::timestamptz IS NULL OR p.created_at >= $8)
  AND ($9::timestamptz IS NULL OR p.created_at < $9) AS is_match
FROM (
  SELECT * FROM ergon.pack p
  WHERE (p.pack, p.first) >= ($1::uuid, coalesce((
    SELECT f.first FROM ergon.pack f
    WHERE f.pack = $1 AND f.first <= $2::int2 ORDER BY f.first DESC LIMIT 1), $2::int2))
  ORDER BY p.pack, p.first
  LIMIT $3::int8
) p
ORDER BY p.pack, p.first
