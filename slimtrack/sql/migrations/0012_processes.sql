-- migrate:up

-- The processes, as they say of themselves every few seconds. Worth nothing after a crash, so it is
-- not in the WAL, and writing to it waits for no disk.
CREATE UNLOGGED TABLE processes (
    id uuid NOT NULL,
    kind text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    -- That a worker takes from.
    queues text[] NOT NULL,
    version text NOT NULL,
    memory_bytes bigint,
    -- By the clock of the database, like all times here.
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT processes_pkey PRIMARY KEY (id),
    CONSTRAINT processes_kind_check CHECK (kind IN ('api', 'publisher', 'worker'))
) WITH (fillfactor = 50);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['slimtrack_api', 'slimtrack_publisher', 'slimtrack_worker'] LOOP
        IF to_regrole(name) IS NOT NULL THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON processes TO %I', name);
        END IF;
    END LOOP;
    IF to_regrole('slimtrack_readonly') IS NOT NULL THEN
        GRANT SELECT ON processes TO slimtrack_readonly;
    END IF;
END $$;
