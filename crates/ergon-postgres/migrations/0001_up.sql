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

-- One row a claim; its token is the fence of every task in it. Part 0 unless a beat renewed only some
-- of its tasks. Whoever takes tasks out of it counts `version` up.
CREATE TABLE ergon.lease (
  token bigint NOT NULL,
  part int NOT NULL,
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

-- Who folds, prunes and sweeps. Terms are given by the database, and never twice.
CREATE TABLE ergon.leader (
  sole boolean PRIMARY KEY DEFAULT true CHECK (sole),
  term bigint NOT NULL,
  server uuid NOT NULL,
  until timestamptz NOT NULL
);
