-- The first schema: packs of payloads, ranges of ids that move, and exceptions by task.
--
-- Every task is in exactly one place: `ready` (it waits), `lease` (it runs), `settled` (it completed
-- at its first attempt), or `task` alone (it finished in any other way). A task whose story differs
-- from that of its pack, since it was retried, cancelled or moved, has a row in `task` as well as
-- long as it waits or runs.

-- An instant, given in microseconds since 1970; exact, unlike to_timestamp().
CREATE FUNCTION ergon.instant(micros bigint) RETURNS timestamptz LANGUAGE sql STABLE STRICT AS $$
  SELECT timestamptz 'epoch' + (micros / 1000000) * interval '1 second'
    + (micros % 1000000) * interval '1 microsecond'
$$;

-- Fails the statement, so that nothing of it happens, unless everything is as it was read.
CREATE FUNCTION ergon.insist(ok boolean) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF ok IS NOT TRUE THEN
    RAISE EXCEPTION 'ergon: changed in the meantime' USING ERRCODE = 'ERG01';
  END IF;
  RETURN ok;
END
$$;

-- The fencing tokens. No cache: of two claims the later one must get the larger number.
CREATE SEQUENCE ergon.token;

CREATE TABLE ergon.queue (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  paused boolean NOT NULL DEFAULT false,
  touched boolean NOT NULL DEFAULT false  -- an operator changed it; else it is shown once it had a task
);

CREATE TABLE ergon.kind (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE
);

-- A queue at one priority: claims read lane by lane.
CREATE TABLE ergon.lane (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue int NOT NULL REFERENCES ergon.queue,
  priority smallint NOT NULL,
  UNIQUE (queue, priority)
);

-- What never changes of a run of tasks with consecutive ids: `pack` is the id without its lowest 12
-- bits, which count from `first` to `first + n - 1`. Append-only, so it knows no bloat; partitioned by
-- the time in the id, so that old ones are dropped and not deleted.
CREATE TABLE ergon.pack (
  pack uuid NOT NULL,
  run_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  lane int NOT NULL,
  kind int NOT NULL,
  max_attempts int NOT NULL,
  first smallint NOT NULL,
  n smallint NOT NULL,
  late boolean NOT NULL,        -- of its row in `ready`
  payload bytea NOT NULL,       -- of all tasks, end to end
  ends int[],                   -- where each payload ends; null for a single task
  options jsonb,                -- retry, timeout, deadline, retention, unique: what was chosen of them
  metadata jsonb,
  tags jsonb,
  PRIMARY KEY (pack, first)
) PARTITION BY RANGE (pack);
-- Larger payloads are stored uncompressed, so that a piece of them can be read by itself.
ALTER TABLE ergon.pack ALTER payload SET STORAGE EXTERNAL, ALTER ends SET STORAGE EXTERNAL;
CREATE TABLE ergon.pack_default PARTITION OF ergon.pack DEFAULT;
CREATE INDEX pack_tags ON ergon.pack USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX pack_metadata ON ergon.pack USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;

-- Ranges of waiting tasks, in the order in which they are claimed. The only hot table: narrow rows,
-- inserted and deleted, never updated.
CREATE TABLE ergon.ready (
  run_at timestamptz NOT NULL,
  pack uuid NOT NULL,
  lane int NOT NULL,
  kind int NOT NULL,
  attempt int NOT NULL,         -- attempts spent
  first smallint NOT NULL,
  n smallint NOT NULL,
  base smallint NOT NULL,       -- no row of `pack` that it touches begins earlier
  late boolean NOT NULL,        -- was inserted when it was due already: see claim.sql
  own boolean NOT NULL,         -- has a row in `task`; then n is 1
  PRIMARY KEY (lane, late, run_at, pack, first)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1);

-- One row a claim; its token is the fence of every task in it. Part 0, and others for tasks that were set
-- apart, or that a beat renewed without the rest. Whoever takes tasks out of it counts `version` up.
CREATE TABLE ergon.lease (
  token bigint NOT NULL,
  part bigint NOT NULL,
  version int NOT NULL,
  cancels int NOT NULL,         -- tasks in it that were asked to stop
  server uuid NOT NULL,
  started_at timestamptz NOT NULL,
  until timestamptz NOT NULL,
  packs uuid[] NOT NULL,
  firsts smallint[] NOT NULL,
  ns smallint[] NOT NULL,
  PRIMARY KEY (token, part)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);

-- Ranges of tasks that completed at their first attempt.
CREATE TABLE ergon.settled (
  pack uuid NOT NULL,
  token bigint NOT NULL,
  started_at timestamptz NOT NULL,
  finished_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  lane int NOT NULL,
  first smallint NOT NULL,
  n smallint NOT NULL,
  base smallint NOT NULL,       -- of which task the first result is
  results bytea,                -- of all tasks from `base` on, end to end; null when none has one
  result_ends int[],            -- where each result ends; -1 - end when the task has none
  PRIMARY KEY (pack, first)
);
ALTER TABLE ergon.settled ALTER results SET STORAGE EXTERNAL, ALTER result_ends SET STORAGE EXTERNAL;
CREATE INDEX settled_expiry ON ergon.settled (expires_at);

-- The changing half of a task that has a story of its own.
CREATE TABLE ergon.task (
  pack uuid NOT NULL,
  run_at timestamptz NOT NULL,
  started_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  token bigint NOT NULL,
  settled_token bigint,
  version bigint NOT NULL,
  lane int NOT NULL,
  attempt int NOT NULL,
  max_attempts int NOT NULL,
  crash_count int NOT NULL,
  off smallint NOT NULL,
  phase smallint NOT NULL,      -- 0 waiting or running, 2 completed, 3 failed, 4 cancelled
  settled_kind smallint,
  cancel_requested boolean NOT NULL,
  late boolean NOT NULL,        -- of its row in `ready`
  result bytea,
  errors jsonb,
  PRIMARY KEY (pack, off)
) WITH (fillfactor = 80);
CREATE INDEX task_expiry ON ergon.task (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX task_phase ON ergon.task (phase, pack, off) WHERE phase > 0;

-- Who holds a unique key.
CREATE TABLE ergon.uniq (
  hash bytea PRIMARY KEY,
  pack uuid NOT NULL,
  until timestamptz,            -- when the key becomes free, if time alone decides
  off smallint NOT NULL
);
CREATE INDEX uniq_until ON ergon.uniq (until) WHERE until IS NOT NULL;

-- How many tasks of a queue are in each phase: `count` and the deltas that are not folded into it yet.
CREATE TABLE ergon.count (
  queue int PRIMARY KEY REFERENCES ergon.queue,
  waiting bigint NOT NULL,
  running bigint NOT NULL,
  completed bigint NOT NULL,
  failed bigint NOT NULL,
  cancelled bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE ergon.delta (
  queue int NOT NULL,
  waiting int NOT NULL,
  running int NOT NULL,
  completed int NOT NULL,
  failed int NOT NULL,
  cancelled int NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);

-- How far running tasks have come, as their handlers told. Holds for the claim with this token alone.
CREATE TABLE ergon.report (
  pack uuid NOT NULL,
  at timestamptz NOT NULL,
  token bigint NOT NULL,
  done bigint NOT NULL,         -- the bits of an unsigned number, as `total`
  total bigint,
  off smallint NOT NULL,
  message text NOT NULL,
  PRIMARY KEY (pack, off)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);

-- Who has everything recorded, and until when; infinity: until told otherwise.
CREATE TABLE ergon.watcher (
  name text COLLATE "C" PRIMARY KEY,
  until timestamptz NOT NULL,
  reached text COLLATE "C"      -- the cursor that it has kept
) WITH (fillfactor = 50);

-- One row when everything is to be recorded, else none. By the start of the statement, which lies before
-- its snapshot: see `watch`. A transaction whose snapshot may be older than that records always.
CREATE VIEW ergon.watched AS
  SELECT true AS is_watched
  WHERE EXISTS (SELECT FROM ergon.watcher w WHERE w.until > statement_timestamp())
    OR current_setting('transaction_isolation') <> 'read committed';

-- What happened while somebody watched: a row for each statement that made it happen, written by it, and
-- numbered after whatever it had to wait for; so the order of `id` is one in which nothing comes before
-- what it could have known of.
--
-- Item by item: an event, and the ids that it happened to. An array of one element holds for all items.
-- Numbers of events: 0 recording began anew; a task was 1 enqueued, 2 started, 3 progressed, 4 completed,
-- 5 retried, 6 failed, 7 asked to stop, 8 cancelled, 9 snoozed, 10 released, 11 rescued, 12 reopened,
-- 13 rescheduled, 14 reprioritized, 15 deleted; 20 tasks were pruned; a queue was 21 paused, 22 resumed;
-- a server 23 started, 24 drains, 25 stopped.
CREATE TABLE ergon.journal (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  at timestamptz NOT NULL,
  events int NOT NULL,          -- how many, counted by task
  event smallint[] NOT NULL,
  pack uuid[],
  first smallint[],
  n smallint[],
  lane int[],
  kind int[],
  attempt int[],
  instant timestamptz[],        -- 1, 13: when it is due; 2: when it was due; 4 to 9: when the attempt began
  server uuid,
  note jsonb                    -- by item: what few events carry
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1);
CREATE INDEX journal_xid ON ergon.journal (xid, id);

-- Record what the statements do that are sent most often: a call that is not made costs them less than an
-- insert that inserts nothing. The entry is numbered by the call, after what its arguments are made of.
CREATE FUNCTION ergon.record_enqueued(
  at timestamptz, pack uuid, off smallint, lane int, kind int, run_at timestamptz
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO ergon.journal (at, events, event, pack, first, n, lane, kind, attempt, instant)
  VALUES (record_enqueued.at, 1, '{1}', ARRAY[record_enqueued.pack], ARRAY[record_enqueued.off], '{1}',
    ARRAY[record_enqueued.lane], ARRAY[record_enqueued.kind], '{0}', ARRAY[record_enqueued.run_at]);
  RETURN true;
END
$$;

-- Of ranges of tasks that completed at their first attempt, those of the leases `held`, which began at `began`.
CREATE FUNCTION ergon.record_completed(
  at timestamptz, held bigint[], began timestamptz[], token bigint[], pack uuid[], first smallint[], n smallint[],
  lane int[], kind int[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO ergon.journal (at, events, event, pack, first, n, lane, kind, attempt, instant)
  SELECT record_completed.at, sum(u.n), '{4}', array_agg(u.pack), array_agg(u.first), array_agg(u.n),
    array_agg(u.lane), array_agg(u.kind), '{1}', array_agg(h.began)
  FROM unnest(record_completed.token, record_completed.pack, record_completed.first, record_completed.n,
      record_completed.lane, record_completed.kind) AS u(token, pack, first, n, lane, kind)
  JOIN unnest(record_completed.held, record_completed.began) AS h(token, began) ON h.token = u.token
  HAVING count(*) > 0;
  RETURN FOUND;
END
$$;

-- What is known of the journal as a whole.
CREATE TABLE ergon.journal_state (
  sole boolean PRIMARY KEY DEFAULT true CHECK (sole),
  number bigint NOT NULL,       -- drawn at random: by it cursors of other journals are told
  is_pending boolean NOT NULL DEFAULT false,  -- somebody watches anew, and the row that says so is to come
  old xid8[] NOT NULL DEFAULT '{}',  -- transactions that may have changed tasks before that, unrecorded
  floor xid8 NOT NULL DEFAULT '0',   -- the largest transaction, and the largest id, of rows that left the window
  floor_id bigint NOT NULL DEFAULT 0,
  low bigint NOT NULL DEFAULT 1,     -- no row that was counted has a smaller id
  bytes bigint NOT NULL DEFAULT 0,   -- of the rows that `counted` sees
  counted pg_snapshot NOT NULL DEFAULT pg_current_snapshot()
) WITH (fillfactor = 50);
INSERT INTO ergon.journal_state (number)
SELECT ('x' || left(u.u, 12) || right(u.u, 4))::bit(64)::bigint
FROM (SELECT replace(gen_random_uuid()::text, '-', '') AS u) u;

-- Has everything recorded for so many microseconds, or until told otherwise, and keeps a place. Answers
-- the place that was kept before, whether there are too many watchers already, for how many microseconds
-- everything would have been recorded without this, and whether recording has to begin anew: then whoever
-- called has to wait for those who may not have seen it, and to call `watch_anew`.
--
-- A statement that does not see the new lease began before its commit. If the old one was not over by
-- then, it saw that: the lease is compared with the start of the statement.
CREATE FUNCTION ergon.watch(
  name text, lease bigint, reached text, watchers_max bigint,
  OUT kept text, OUT is_full boolean, OUT covered bigint, OUT is_pending boolean
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  clock timestamptz;
  live timestamptz;
  is_known boolean;
BEGIN
  -- One after another.
  SELECT s.is_pending INTO watch.is_pending FROM ergon.journal_state s FOR UPDATE;
  clock := clock_timestamp();
  SELECT max(w.until) INTO live FROM ergon.watcher w WHERE w.until > clock;
  SELECT true, w.reached INTO is_known, watch.kept FROM ergon.watcher w WHERE w.name = watch.name;
  watch.is_full := false;
  IF is_known IS NULL AND (SELECT count(*) FROM ergon.watcher) >= watch.watchers_max THEN
    -- The one that is over for longest makes room.
    DELETE FROM ergon.watcher w WHERE w.name = (
      SELECT o.name FROM ergon.watcher o WHERE o.until <= clock ORDER BY o.until LIMIT 1);
    IF NOT FOUND THEN
      watch.is_full := true;
      RETURN;
    END IF;
  END IF;
  INSERT INTO ergon.watcher AS w (name, until, reached)
  VALUES (watch.name, coalesce(clock + watch.lease * interval '1 microsecond', 'infinity'), watch.reached)
  ON CONFLICT (name) DO UPDATE SET until = excluded.until, reached = coalesce(excluded.reached, w.reached);
  IF live IS NULL AND NOT watch.is_pending THEN
    UPDATE ergon.journal_state SET is_pending = true;
    watch.is_pending := true;
  END IF;
  watch.covered := CASE WHEN live = 'infinity' THEN 9223372036854775807
    ELSE coalesce((extract(epoch FROM live - clock) * 1000000)::bigint, 0) END;
END
$$;

-- Lets recording begin anew, after a lease that was renewed too late.
CREATE FUNCTION ergon.watch_late() RETURNS void LANGUAGE sql VOLATILE AS $$
  UPDATE ergon.journal_state SET is_pending = true WHERE NOT is_pending
$$;

-- Says in the journal that recording began anew. Those of the virtual transactions that still go on may
-- have changed tasks unrecorded: whoever reads over the end of one of them is told.
CREATE FUNCTION ergon.watch_anew(going text[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  pending boolean;
BEGIN
  SELECT s.is_pending INTO pending FROM ergon.journal_state s FOR UPDATE;
  IF pending THEN
    INSERT INTO ergon.journal (at, events, event) VALUES (clock_timestamp(), 0, '{0}');
    UPDATE ergon.journal_state SET is_pending = false, old = ARRAY (
      SELECT x FROM pg_snapshot_xip(pg_current_snapshot()) AS x
      WHERE cardinality(watch_anew.going) > 0 AND (x::text::bigint & 4294967295) IN (
        SELECT l.transactionid::text::bigint FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'transactionid' AND l.granted AND l.virtualtransaction = ANY (watch_anew.going)));
  END IF;
END
$$;

-- Makes the journal another one, in which nothing happened yet: whoever goes on from a cursor of the old
-- one is told. For a database that was restored.
CREATE FUNCTION ergon.journal_reset() RETURNS void LANGUAGE sql VOLATILE AS $$
  DELETE FROM ergon.journal;
  UPDATE ergon.watcher SET reached = NULL;
  UPDATE ergon.journal_state SET is_pending = true, old = '{}', floor = '0', floor_id = 0, low = 1, bytes = 0,
    counted = pg_current_snapshot(), number = (
      SELECT ('x' || left(u.u, 12) || right(u.u, 4))::bit(64)::bigint
      FROM (SELECT replace(gen_random_uuid()::text, '-', '') AS u) u)
$$;

-- What is small and seldom: servers that live, statistics, the audit trail. Keys sort by their bytes.
CREATE TABLE ergon.document (
  space smallint NOT NULL,
  version bigint NOT NULL,
  expires_at timestamptz,
  key bytea NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (space, key)
) WITH (fillfactor = 80);
CREATE INDEX document_expiry ON ergon.document (expires_at) WHERE expires_at IS NOT NULL;

-- Who folds, prunes and sweeps. Terms are given by the database, and never twice.
CREATE TABLE ergon.leader (
  sole boolean PRIMARY KEY DEFAULT true CHECK (sole),
  term bigint NOT NULL,
  server uuid NOT NULL,
  until timestamptz NOT NULL
);

-- The smallest id of an instant, in milliseconds, and the instant of an id.
CREATE FUNCTION ergon.pack_bound(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex(greatest(0, round(extract(epoch FROM at) * 1000))::bigint), 12, '0')
    || repeat('0', 20))::uuid
$$;
CREATE FUNCTION ergon.pack_time(pack uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT timestamptz 'epoch' + interval '1 millisecond'
    * ('x' || lpad(left(replace(pack::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
$$;

-- The partitions of `pack` with their bounds, without the default one. Those that are sealed are about
-- to be dropped.
CREATE VIEW ergon.partition AS
  SELECT c.relname::text COLLATE "C" AS name, b.bounds[1]::uuid AS low, b.bounds[2]::uuid AS high,
    EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = 'sealed') AS sealed
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
  CROSS JOIN LATERAL (
    SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid),
      '^FOR VALUES FROM [(]''([0-9a-f-]{36})''[)] TO [(]''([0-9a-f-]{36})''[)]$') AS bounds
  ) b
  WHERE i.inhparent = 'ergon.pack'::regclass AND b.bounds IS NOT NULL;

-- Packs of which a row was inserted into a sealed partition.
CREATE TABLE ergon.revived (pack uuid NOT NULL);
CREATE FUNCTION ergon.note_revived() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO ergon.revived (pack) VALUES (NEW.pack);
  RETURN NULL;
END
$$;

-- The partitions that are missing for this time and the next, of so many milliseconds each. There is none
-- for a time of which `pack_default` holds rows already.
CREATE FUNCTION ergon.partition_missing(span bigint) RETURNS TABLE (low uuid, high uuid)
LANGUAGE sql VOLATILE STRICT AS $$
  SELECT s.low, t.high
  FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint / span AS number) this
  CROSS JOIN (VALUES (0), (1)) AS place (place)
  CROSS JOIN LATERAL (
    SELECT ergon.pack_bound(timestamptz 'epoch' + (number + place) * span * interval '1 millisecond') AS low,
      ergon.pack_bound(timestamptz 'epoch' + (number + place + 1) * span * interval '1 millisecond') AS high
  ) t
  CROSS JOIN LATERAL (
    -- After one that begins earlier, of another span.
    SELECT greatest(t.low, (
      SELECT p.high FROM ergon.partition p WHERE p.low < t.high ORDER BY p.high DESC LIMIT 1)) AS low
  ) s
  WHERE s.low < t.high
    AND NOT EXISTS (SELECT FROM ergon.pack_default d WHERE d.pack >= s.low AND d.pack < t.high)
  ORDER BY 1
$$;

-- What follows changes tables. It acts with the rights of whoever made these, so that roles can keep
-- house that may change none. Whoever waits for a lock on `pack` has everybody wait behind itself: so it
-- is taken first, not waited for long, and no other is waited for while it is held.

-- Makes the partitions that are missing; answers how many.
CREATE FUNCTION ergon.partition_ahead(span bigint) RETURNS int LANGUAGE plpgsql STRICT
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
  missing record;
  made int := 0;
BEGIN
  IF NOT EXISTS (SELECT FROM ergon.partition_missing(span)) THEN
    RETURN 0;
  END IF;
  -- All of it is read to make a partition.
  IF pg_relation_size('ergon.pack_default') > 512 << 20 THEN
    RAISE EXCEPTION 'ergon: pack_default is too large to make partitions beside it' USING ERRCODE = '54000';
  END IF;
  LOCK TABLE ONLY ergon.pack IN ACCESS EXCLUSIVE MODE;
  LOCK TABLE ONLY ergon.pack_default IN ACCESS EXCLUSIVE MODE NOWAIT;
  FOR missing IN SELECT * FROM ergon.partition_missing(span) LOOP
    EXECUTE format('CREATE TABLE ergon.%I PARTITION OF ergon.pack FOR VALUES FROM (%L) TO (%L)',
      to_char(ergon.pack_time(missing.low) AT TIME ZONE 'UTC', '"pack_"YYYYMMDD_HH24MI'),
      missing.low, missing.high);
    made := made + 1;
  END LOOP;
  RETURN made;
END
$$;

-- Lets inserts into a partition be noted from now on; those of the past are committed when it returns.
CREATE FUNCTION ergon.partition_seal(part text) RETURNS boolean LANGUAGE plpgsql STRICT
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM ergon.partition p WHERE p.name = part AND NOT p.sealed) THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TRIGGER sealed AFTER INSERT OR UPDATE ON ergon.%I FOR EACH ROW '
    'EXECUTE FUNCTION ergon.note_revived()', part);
  RETURN true;
END
$$;

-- Drops a sealed partition, and moves what lives of it to `pack_default`, if that are not more rows and
-- bytes than these. Answers how many were moved; null when nothing happened.
--
-- What lives is looked for before anything is locked: from then on tasks in it can only die, but for
-- those that are inserted, and these are noted.
CREATE FUNCTION ergon.partition_drop(part text, rows_max bigint, bytes_max bigint) RETURNS bigint
LANGUAGE plpgsql STRICT
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' SET enable_seqscan = on AS $$
DECLARE
  p ergon.partition;
  live record;
  moved bigint;
BEGIN
  -- Each step has to see what was committed before it.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'ergon: partitions are dropped at read committed' USING ERRCODE = '25001';
  END IF;
  SELECT * INTO p FROM ergon.partition q WHERE q.name = part AND q.sealed;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  WITH settled AS MATERIALIZED (
    SELECT s.pack, s.first, s.n FROM ergon.settled s
    WHERE s.pack >= p.low AND s.pack < p.high LIMIT rows_max + 1
  ), task AS MATERIALIZED (
    SELECT t.pack, t.off AS first, 1::int2 AS n FROM ergon.task t
    WHERE t.pack >= p.low AND t.pack < p.high LIMIT rows_max + 1
  ), lease AS MATERIALIZED (
    SELECT x.pack, x.first, x.n
    FROM ergon.lease l CROSS JOIN LATERAL unnest(l.packs, l.firsts, l.ns) AS x(pack, first, n)
    WHERE x.pack >= p.low AND x.pack < p.high LIMIT rows_max + 1
  ), ready AS MATERIALIZED (
    -- Has no index on the pack, so it is read to its end, unless enough was found.
    SELECT r.pack, r.first, r.n FROM ergon.ready r
    WHERE r.pack >= p.low AND r.pack < p.high
      AND (SELECT count(*) FROM settled) + (SELECT count(*) FROM task) + (SELECT count(*) FROM lease)
        <= rows_max
    LIMIT rows_max + 1
  ), ranges AS MATERIALIZED (
    SELECT * FROM settled UNION ALL SELECT * FROM task UNION ALL SELECT * FROM lease UNION ALL
    SELECT * FROM ready
  ), found AS MATERIALIZED (
    SELECT DISTINCT q.pack, q.first, pg_column_size(q.payload) AS bytes
    FROM ranges CROSS JOIN LATERAL (
      SELECT * FROM ergon.pack q
      WHERE q.pack = ranges.pack AND q.first < ranges.first + ranges.n AND q.first + q.n > ranges.first
      OFFSET 0
    ) q
    WHERE (SELECT count(*) FROM ranges) <= rows_max
    LIMIT rows_max + 1
  )
  SELECT (SELECT count(*) FROM ranges) AS ranges, count(*) AS rows, coalesce(sum(bytes), 0) AS bytes,
    array_agg(pack) AS packs, array_agg(first) AS firsts
  INTO live FROM found;
  IF live.ranges > rows_max OR live.rows > rows_max OR live.bytes > bytes_max THEN
    RETURN NULL;
  END IF;
  LOCK TABLE ONLY ergon.pack IN ACCESS EXCLUSIVE MODE;
  LOCK TABLE ONLY ergon.pack_default IN ACCESS EXCLUSIVE MODE NOWAIT;
  IF NOT EXISTS (SELECT FROM ergon.partition q WHERE q.name = part) THEN
    RETURN NULL;
  END IF;
  EXECUTE format('LOCK TABLE ergon.%I IN ACCESS EXCLUSIVE MODE NOWAIT', part);
  EXECUTE format('ALTER TABLE ergon.pack DETACH PARTITION ergon.%I', part);
  EXECUTE format('INSERT INTO ergon.pack SELECT q.* FROM ergon.%I q '
    'WHERE (q.pack, q.first) IN (SELECT * FROM unnest($1::uuid[], $2::int2[])) '
    'OR q.pack IN (SELECT v.pack FROM ergon.revived v)', part) USING live.packs, live.firsts;
  GET DIAGNOSTICS moved = ROW_COUNT;
  EXECUTE format('DROP TABLE ergon.%I', part);
  DELETE FROM ergon.revived v WHERE v.pack >= p.low AND v.pack < p.high;
  RETURN moved;
END
$$;

-- Folds all deltas and leaves `delta` empty, without the dead rows that vacuum cannot remove while
-- somebody holds an old snapshot; answers how many it folded.
CREATE FUNCTION ergon.delta_compact() RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET enable_seqscan = on AS $$
DECLARE
  folded bigint;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'ergon: deltas are compacted at read committed' USING ERRCODE = '25001';
  END IF;
  LOCK TABLE ergon.delta IN ACCESS EXCLUSIVE MODE;
  WITH d AS MATERIALIZED (
    SELECT * FROM ergon.delta
  ), c AS (
    INSERT INTO ergon.count AS c (queue, waiting, running, completed, failed, cancelled)
    SELECT queue, sum(waiting), sum(running), sum(completed), sum(failed), sum(cancelled)
    FROM d GROUP BY queue ORDER BY queue
    ON CONFLICT (queue) DO UPDATE SET waiting = c.waiting + excluded.waiting,
      running = c.running + excluded.running, completed = c.completed + excluded.completed,
      failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled
  )
  SELECT count(*) INTO folded FROM d;
  TRUNCATE ergon.delta;
  RETURN folded;
END
$$;

REVOKE EXECUTE ON FUNCTION ergon.note_revived(), ergon.partition_ahead(bigint), ergon.partition_seal(text),
  ergon.partition_drop(text, bigint, bigint), ergon.delta_compact() FROM PUBLIC;

-- Today and tomorrow.
SELECT ergon.partition_ahead(86400000);

-- Says whether no id of a run is taken, and sees to it that none is until the transaction ends: runs that
-- share a row lock out whoever stores ids of the same bucket, single tasks only them. Its query has a
-- snapshot of its own, taken after the lock was got; that of the statement around it would be older.
CREATE FUNCTION ergon.is_free(bucket int, shares_row boolean, pack uuid, first int, last int)
  RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  IF is_free.shares_row THEN
    PERFORM pg_advisory_xact_lock(1701996398, is_free.bucket);
  ELSE
    PERFORM pg_advisory_xact_lock_shared(1701996398, is_free.bucket);
  END IF;
  RETURN coalesce((
    SELECT p.first + p.n FROM ergon.pack p
    WHERE p.pack = is_free.pack AND p.first <= is_free.last ORDER BY p.first DESC LIMIT 1), 0) <= is_free.first;
END
$$;

-- Enqueues one task, for other languages, for triggers and for psql; committed with the transaction of
-- whoever calls it. Answers the id of the task. Checks what a client would check; a role needs no other
-- right than to execute it.
CREATE FUNCTION ergon.enqueue(
  kind text,
  payload jsonb DEFAULT '{}',
  queue text DEFAULT 'default',
  priority int DEFAULT 0,
  run_at timestamptz DEFAULT NULL,    -- null: at once
  max_attempts int DEFAULT 25,
  metadata jsonb DEFAULT NULL,        -- an object of texts
  tags text[] DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  name_rule CONSTANT text := '^[A-Za-z0-9._:/-]{1,128}$';
  body CONSTANT bytea := convert_to(enqueue.payload::text, 'UTF8');
  clock timestamptz;
  due timestamptz;
  random text;
  id uuid;
  queue_id int;
  kind_id int;
  lane_id int;
  is_recorded boolean;
  channel text;
BEGIN
  IF enqueue.kind IS NULL OR enqueue.kind !~ name_rule THEN
    RAISE EXCEPTION 'ergon: kind % is not 1 to 128 of A-Z a-z 0-9 . _ : / -', quote_nullable(enqueue.kind)
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF enqueue.queue IS NULL OR enqueue.queue !~ name_rule THEN
    RAISE EXCEPTION 'ergon: queue % is not 1 to 128 of A-Z a-z 0-9 . _ : / -', quote_nullable(enqueue.queue)
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF body IS NULL OR length(body) > 1048576 THEN
    RAISE EXCEPTION 'ergon: payload is null or exceeds 1048576 bytes' USING ERRCODE = 'invalid_parameter_value';
  ELSIF enqueue.priority IS NULL OR enqueue.priority NOT BETWEEN -32768 AND 32767 THEN
    RAISE EXCEPTION 'ergon: priority is not within -32768 and 32767' USING ERRCODE = 'invalid_parameter_value';
  ELSIF enqueue.max_attempts IS NULL OR enqueue.max_attempts NOT BETWEEN 1 AND 65535 THEN
    RAISE EXCEPTION 'ergon: max_attempts is not within 1 and 65535' USING ERRCODE = 'invalid_parameter_value';
  ELSIF enqueue.run_at > clock_timestamp() + interval '3660 days' THEN
    RAISE EXCEPTION 'ergon: run_at lies more than 10 years in the future' USING ERRCODE = 'invalid_parameter_value';
  ELSIF enqueue.metadata IS NOT NULL AND (jsonb_typeof(enqueue.metadata) <> 'object'
      OR octet_length(enqueue.metadata::text) > 65536
      OR EXISTS (SELECT FROM jsonb_each(enqueue.metadata) AS e(key, value)
        WHERE jsonb_typeof(value) <> 'string' OR key = '' OR octet_length(key) > 128 OR key ~ '[[:cntrl:]]')) THEN
    RAISE EXCEPTION 'ergon: metadata is not an object of texts under keys of 1 to 128 bytes, 65536 bytes in all'
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF cardinality(enqueue.tags) > 32 OR EXISTS (SELECT FROM unnest(enqueue.tags) AS t(tag)
      WHERE tag IS NULL OR tag = '' OR octet_length(tag) > 64 OR tag ~ '[[:cntrl:]]') THEN
    RAISE EXCEPTION 'ergon: tags are not up to 32 texts of 1 to 64 bytes' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO ergon.queue (name) VALUES (enqueue.queue) ON CONFLICT DO NOTHING;
  INSERT INTO ergon.kind (name) VALUES (enqueue.kind) ON CONFLICT DO NOTHING;
  SELECT q.id INTO STRICT queue_id FROM ergon.queue q WHERE q.name = enqueue.queue;
  SELECT k.id INTO STRICT kind_id FROM ergon.kind k WHERE k.name = enqueue.kind;
  INSERT INTO ergon.lane (queue, priority) VALUES (queue_id, enqueue.priority) ON CONFLICT DO NOTHING;
  SELECT l.id INTO STRICT lane_id FROM ergon.lane l WHERE l.queue = queue_id AND l.priority = enqueue.priority;
  -- The clock is read after the transaction has its number: see insert.sql.
  PERFORM pg_current_xact_id();
  clock := clock_timestamp();
  -- The earliest instant that is kept: see value.rs.
  due := greatest(coalesce(enqueue.run_at, clock), timestamptz '0001-01-01 00:00:00+00');
  random := replace(gen_random_uuid()::text, '-', '');
  id := (lpad(to_hex((extract(epoch FROM clock) * 1000)::bigint), 12, '0') || '7' || substr(random, 14, 16)
    || '000')::uuid;
  INSERT INTO ergon.pack (pack, run_at, created_at, lane, kind, max_attempts, first, n, late, payload,
    metadata, tags)
  VALUES (id, due, clock, lane_id, kind_id, enqueue.max_attempts, 0, 1, due < clock, body,
    nullif(enqueue.metadata, '{}'), CASE WHEN cardinality(enqueue.tags) > 0 THEN to_jsonb(enqueue.tags) END);
  INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
  VALUES (due, id, lane_id, kind_id, 0, 0, 1, 0, due < clock, false);
  INSERT INTO ergon.delta (queue, waiting, running, completed, failed, cancelled)
  VALUES (queue_id, 1, 0, 0, 0, 0);
  INSERT INTO ergon.journal (at, events, event, pack, first, n, lane, kind, attempt, instant)
  SELECT clock, 1, '{1}', ARRAY[id], '{0}', '{1}', ARRAY[lane_id], ARRAY[kind_id], '{0}', ARRAY[due]
  WHERE EXISTS (SELECT FROM ergon.watched);
  is_recorded := FOUND;
  SELECT n.nspname INTO STRICT channel FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid = 'ergon.queue'::regclass;
  PERFORM pg_notify(channel || '.due', enqueue.queue);
  IF is_recorded THEN
    PERFORM pg_notify(channel || '.journal', '');
  END IF;
  RETURN id;
END
$$;
REVOKE ALL ON FUNCTION ergon.enqueue(text, jsonb, text, int, timestamptz, int, jsonb, text[]) FROM PUBLIC;
